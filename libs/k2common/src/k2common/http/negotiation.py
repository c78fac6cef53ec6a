"""Which format an answer has: `format=` first, then the header Accept, then JSON."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from k2common.http.parameters import invalid
from k2common.http.problems import FieldError

MEDIA_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


def choose(request: Request, given: str | None, allowed: Sequence[str] = tuple(MEDIA_TYPES)) -> str:
    """The name of the format.

    Raises Problem 400 for a format that is not among `allowed`; an Accept header that names none gets JSON.
    """
    if given is not None:
        if given in allowed:
            return given
        message = f"format is one of {', '.join(allowed)}"
        raise invalid([FieldError(parameter="format", code="INVALID", message=message, value=given)])
    accepted = [part.partition(";")[0].strip() for part in request.headers.get("Accept", "").split(",")]
    return next((name for name in allowed if MEDIA_TYPES[name] in accepted), "json")
