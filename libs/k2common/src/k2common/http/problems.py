"""Errors are RFC 9457 problem documents, in one shape for all services."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One fault of a request: `parameter` is a query parameter, header or JSON pointer."""

    parameter: str
    code: str
    message: str
    value: str | None = None

    def to_json(self) -> Mapping[str, Any]:
        """As it stands in the list `errors`."""
        place = "pointer" if self.parameter.startswith("/") else "parameter"
        return {place: self.parameter, "code": self.code, "message": self.message, "value": self.value}


class Problem(Exception):
    """An answer other than success. `code` is stable, `detail` is for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class _AnyText(JSONResponse):
    """JSON in UTF-8; half of a surrogate pair, which a client's own JSON can hold, is shown as `?`."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode(errors="replace")


def problem_response(problem: Problem, request: Request) -> JSONResponse:
    """The document for `problem`."""
    body = {
        "type": f"urn:k2:problem:{problem.code.lower().replace('_', '-')}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "code": problem.code,
        "request_id": request.scope.get("k2_request_id"),
        "errors": [error.to_json() for error in problem.errors],
        **problem.extra,
    }
    return _AnyText(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)
