"""Query parameters: known ones only, each error by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from http import HTTPStatus

from starlette.requests import Request

from k2common.http.problems import FieldError, Problem

INTEGER = re.compile(r"[0-9]{1,18}")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


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


def integer(given: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    """The integer `name`.

    Raises Problem 400 for anything that is none from `least` to `most`.
    """
    text = given.get(name, str(default))
    if INTEGER.fullmatch(text) and least <= int(text) <= most:
        return int(text)
    message = f"{name} is an integer from {least} to {most}"
    raise invalid([FieldError(parameter=name, code="INVALID", message=message, value=text)])


def number(given: Mapping[str, str], name: str, *, default: float, most: float) -> float:
    """The number `name`.

    Raises Problem 400 for anything that is none from 0 to `most`.
    """
    text = given.get(name, str(default))
    if NUMBER.fullmatch(text) and float(text) <= most:
        return float(text)
    message = f"{name} is a number from 0 to {most:g}"
    raise invalid([FieldError(parameter=name, code="INVALID", message=message, value=text)])


def invalid(errors: list[FieldError]) -> Problem:
    """Problem 400 for parameters at fault."""
    detail = "; ".join(error.message for error in errors)
    return Problem(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER", detail, errors=errors)


def _unknown(name: str, known: list[str]) -> FieldError:
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return FieldError(parameter=name, code="UNKNOWN_PARAMETER", message=f"{name} is not known here{hint}")
