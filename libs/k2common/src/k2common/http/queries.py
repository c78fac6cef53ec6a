"""What the readers of versions and the engine raise, as problem documents."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from k2common.engine.connection import QueryInterrupted, QueryTooLarge, ValueOutOfRange
from k2common.errors import RecordError
from k2common.http.problems import Problem, problem_response
from k2common.iceberg.reading.reader import UnknownVersion, VersionGone
from k2common.query.admission import Overloaded, TooManyAtOnce

PROBLEMS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    UnknownVersion: (HTTPStatus.NOT_FOUND, "VERSION_UNKNOWN"),
    VersionGone: (HTTPStatus.GONE, "VERSION_GONE"),
    QueryInterrupted: (HTTPStatus.GATEWAY_TIMEOUT, "QUERY_TIMEOUT"),
    QueryTooLarge: (HTTPStatus.UNPROCESSABLE_ENTITY, "QUERY_TOO_LARGE"),
    ValueOutOfRange: (HTTPStatus.UNPROCESSABLE_ENTITY, "VALUE_OUT_OF_RANGE"),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "OVERLOADED"),
    TooManyAtOnce: (HTTPStatus.TOO_MANY_REQUESTS, "TOO_MANY_QUERIES"),
    RecordError: (HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER"),
}
RETRY = {"Retry-After": "1"}


def install_query_problems(app: Starlette) -> None:
    """Answer each of them with its status and code."""
    for kind in PROBLEMS:
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    status, code = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    headers = RETRY if isinstance(error, (Overloaded, TooManyAtOnce)) else None
    return problem_response(Problem(status, code, str(error), headers=headers), request)
