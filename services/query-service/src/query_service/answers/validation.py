"""Query parameters read as in all services, and FastAPI's findings about them in the same problem shape."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from k2common.http.parameters import invalid, require_known
from k2common.http.problems import FieldError, problem_response
from starlette.requests import Request
from starlette.responses import Response


async def refuse_unknown(request: Request) -> None:
    """Raise Problem 400 for query parameters that the route does not take or that stand more than once.

    A model would take the last of several values.
    """
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is not None:
        taken = {str(param.alias) for param in get_flat_params(dependant)}
        require_known(request, taken - request.path_params.keys())


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
    if dependant is None:
        return []
    bodies = [param.field_info.annotation for param in dependant.body_params]
    fields = [
        field.alias or name for body in bodies for name, field in getattr(body, "model_fields", {}).items()
    ]
    return [str(param.alias) for param in get_flat_params(dependant)] + fields


def _field_error(entry: Any, known: list[str]) -> FieldError:
    place, *rest = entry["loc"]
    in_body = place == "body"
    name = str(rest[0] if in_body and rest else entry["loc"][-1])
    shown = _pointer(rest) if in_body else name
    given = entry.get("input")
    value = given[:100] if isinstance(given, str) else None
    if entry["type"] == "extra_forbidden":
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        message = f"{name} is not known here{hint}"
        return FieldError(parameter=shown, code="UNKNOWN_PARAMETER", message=message)
    return FieldError(parameter=shown, code="INVALID", message=f"{name}: {entry['msg']}", value=value)


def _pointer(path: list[Any]) -> str:
    """The JSON pointer of a field of the body; "/" for the body as a whole."""
    return f"/{path[0]}".replace("~", "~0") if path and isinstance(path[0], str) else "/"
