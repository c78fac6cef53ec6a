"""Who may do what, and how often, before any handler is reached."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2common.errors import SetupError
from k2common.http import viewer
from k2common.http.access.keys import KeyFile
from k2common.http.access.rate_limits import Allowance, RateLimit
from k2common.http.problems import Problem, problem_response
from k2common.observability.metrics import Series
from k2common.query.admission import CALLER
from k2common.runtime.clock import Clock
from k2common.settings.service import HttpSettings
from k2common.settings.signing import is_loopback

OPEN_PATHS = ("/livez", "/readyz", "/metrics", *viewer.OPEN_PATHS)
READING = ("GET", "HEAD", "OPTIONS")
BEARER = "bearer "


class Access:
    """ASGI middleware: 401, 403 and 429 by keys and limits of the settings; some paths are open."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: HttpSettings,
        writes: str,
        clock: Clock,
        writers_read: re.Pattern[str] | None = None,
    ) -> None:
        """`writes` is the scope of every method but the reading ones; it may also read `writers_read`.

        Raises SetupError for a service that would be open to other machines by accident.
        """
        self._app = app
        self._writes = writes
        self._writers_read = writers_read
        self._keys = None if settings.keys_file is None else KeyFile(settings.keys_file, clock=clock)
        if self._keys is None and not settings.allow_anonymous and not is_loopback(settings.host):
            raise SetupError(
                f"{settings.host} can be reached from other machines; set K2_HTTP__KEYS_FILE, or "
                "K2_HTTP__ALLOW_ANONYMOUS=true where something else keeps strangers out"
            )
        self._limit = None
        if settings.requests_per_second:
            self._limit = RateLimit(
                per_second=settings.requests_per_second, burst=settings.requests_burst, clock=clock
            )

    def keys_left(self) -> Series:
        """Seconds until the first of the used keys ends; nothing where none has an end."""
        left = None if self._keys is None else self._keys.left_seconds()
        return {} if left is None else {(): left}

    def protect(self, app: ASGIApp) -> None:
        """Pass what is allowed to this application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            client = self._identified(scope)
            CALLER.set(client)
            allowance = None if self._limit is None else self._limit.take(client)
            if allowance is not None and not allowance.passes:
                raise _too_many(allowance)
        except Problem as problem:
            await problem_response(problem, Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send if allowance is None else self._telling(allowance, send))

    def _identified(self, scope: Scope) -> str:
        if self._keys is None:
            return str((scope.get("client") or ("unknown",))[0])
        text = _given(Headers(scope=scope))
        if text is None:
            raise _unauthorized("KEY_MISSING", "a key is needed, as Authorization: Bearer or X-API-Key")
        key = self._keys.find(text)
        if key is None:
            raise _unauthorized("KEY_INVALID", "the key is not known, or no longer accepted")
        scopes = self._scopes(scope["method"], scope["path"])
        if not any(key.allows(one) for one in scopes):
            message = f"key {key.id} does not have the scope {' or '.join(scopes)}"
            raise Problem(HTTPStatus.FORBIDDEN, "SCOPE_MISSING", message)
        return key.id

    def _scopes(self, method: str, path: str) -> Sequence[str]:
        """The scopes any one of which allows the request."""
        if method not in READING:
            return [self._writes]
        also = self._writers_read is not None and self._writers_read.fullmatch(path)
        return ["read", self._writes] if also else ["read"]

    def _telling(self, allowance: Allowance, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers(allowance))
            await send(message)

        return sending

    def _headers(self, allowance: Allowance) -> dict[str, str]:
        burst = 0 if self._limit is None else self._limit.burst
        return {
            "RateLimit-Limit": str(burst),
            "RateLimit-Remaining": str(allowance.remaining),
            "RateLimit-Reset": str(allowance.reset_seconds),
        }


def _given(headers: Headers) -> str | None:
    authorization = headers.get("Authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return headers.get("X-API-Key")


def _unauthorized(code: str, message: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, code, message, headers={"WWW-Authenticate": "Bearer"})


def _too_many(allowance: Allowance) -> Problem:
    headers = {"Retry-After": str(allowance.retry_seconds), "RateLimit-Remaining": "0"}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "RATE_LIMITED", "too many requests", headers=headers)
