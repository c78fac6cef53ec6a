"""Query parameters: known ones only, each error by name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from http import HTTPStatus

from starlette.requests import Request

from k2common.http.problems import FieldError, Problem


def require_known(request: Request, names: Iterable[str], *, also: Iterable[str] = ()) -> None:
    """Refuse query parameters, and those of `also`, that are not among `names` or stand twice.

    Raises Problem 400 that names each one and the nearest valid name.
    """
    known = sorted(names)
    given = [*(name for name, _ in request.query_params.multi_items()), *also]
    errors = [_unknown(name, known) for name in dict.fromkeys(given) if name not in known]
    errors += [
        FieldError(parameter=name, code="REPEATED", message=f"{name} stands more than once")
        for name in dict.fromkeys(given)
        if name in known and given.count(name) > 1
    ]
    if errors:
        raise invalid(errors)


def invalid(errors: list[FieldError]) -> Problem:
    """Problem 400 for parameters at fault."""
    detail = "; ".join(error.message for error in errors)
    return Problem(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER", detail, errors=errors)


def _unknown(name: str, known: list[str]) -> FieldError:
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return FieldError(parameter=name, code="UNKNOWN_PARAMETER", message=f"{name} is not known here{hint}")
