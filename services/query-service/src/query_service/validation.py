"""FastAPI's findings about parameters in the problem shape of all services."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from k2common.http.parameters import invalid
from k2common.http.problems import FieldError, problem_response
from starlette.requests import Request
from starlette.responses import Response


def install_validation(app: FastAPI) -> None:
    """Answer a request with wrong parameters with Problem 400."""
    app.add_exception_handler(RequestValidationError, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    known = _names(request)
    return problem_response(invalid([_field_error(entry, known) for entry in error.errors()]), request)


def _names(request: Request) -> list[str]:
    dependant = getattr(request.scope.get("route"), "dependant", None)
    return [] if dependant is None else [str(param.alias) for param in get_flat_params(dependant)]


def _field_error(entry: Any, known: list[str]) -> FieldError:
    name = str(entry["loc"][-1])
    given = entry.get("input")
    value = given[:100] if isinstance(given, str) else None
    if entry["type"] == "extra_forbidden":
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return FieldError(parameter=name, code="UNKNOWN_PARAMETER", message=f"{name} is not known here{hint}")
    return FieldError(parameter=name, code="INVALID", message=f"{name}: {entry['msg']}", value=value)
