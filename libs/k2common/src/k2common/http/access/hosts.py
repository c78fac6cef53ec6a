"""Which Host and Origin a request may name: web pages of strangers neither read nor write a fleet.

A page whose name is rebound to this address sends its own name as Host. A page of another origin sends a
foreign Origin, or Sec-Fetch-Site other than `same-origin` and `none` (https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from http import HTTPStatus
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from k2common.http.problems import Problem, problem_response
from k2common.settings.service import HttpSettings

ANY = "*"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_FETCHES = frozenset({"same-origin", "none"})
AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", re.IGNORECASE)
ORIGIN = re.compile(r"https?://([^/?#@]+)", re.IGNORECASE)
DEFAULT_PORTS = frozenset({"80", "443"})


class Authority(NamedTuple):
    """A host's name or address in lower case, and its port; "" for the default ones."""

    host: str
    port: str


class HostGuard:
    """ASGI middleware: 403 for a Host that is not this service's, and for writes from other origins."""

    def __init__(self, app: ASGIApp, *, settings: HttpSettings) -> None:
        self._app = app
        self._allowed = frozenset(settings.allowed_hosts)
        self._own = frozenset({settings.host.lower(), socket.gethostname().lower()}) | self._allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except Problem as problem:
                await problem_response(problem, Request(scope))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        given = headers.getlist("Host")
        host = parse_authority(given[0]) if len(given) == 1 else None
        server = (scope.get("server") or ("",))[0]
        if ANY not in self._allowed and (host is None or not is_own(host.host, self._own, server)):
            detail = "this service does not answer to the request's Host; K2_HTTP__ALLOWED_HOSTS adds names"
            raise Problem(HTTPStatus.FORBIDDEN, "HOST_NOT_ALLOWED", detail)
        if scope["method"] not in READING and is_foreign(headers, host, self._allowed):
            detail = "a web page of another origin may not write"
            raise Problem(HTTPStatus.FORBIDDEN, "CROSS_SITE_REQUEST", detail)


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of `host[:port]`; None for anything else."""
    found = AUTHORITY.fullmatch(text.strip())
    if found is None:
        return None
    address, name, port = found.groups()
    host = (address or name).lower()
    return Authority(host.removesuffix("."), "" if port is None or port in DEFAULT_PORTS else port)


def is_own(host: str, own: Collection[str], server: str) -> bool:
    """Whether a host is a loopback name or address, one of `own`, or the address that was connected to."""
    if host in ("localhost", server.lower()) or is_named(host, own):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_named(host: str, names: Collection[str]) -> bool:
    """Whether a host is one of the names, or lies below one that begins with `*.`."""
    parents = (host[at:] for at, letter in enumerate(host) if letter == ".")
    return host in names or any(f"*{parent}" in names for parent in parents)


def is_foreign(headers: Headers, host: Authority | None, allowed: Collection[str]) -> bool:
    """Whether a page of another origin than the service's own sent the request; other clients say neither."""
    if headers.get("Sec-Fetch-Site", "none") not in OWN_FETCHES:
        return True
    origins = headers.getlist("Origin")
    return any(not _is_same(origin, host, allowed) for origin in origins)


def _is_same(origin: str, host: Authority | None, allowed: Collection[str]) -> bool:
    found = ORIGIN.fullmatch(origin.strip())
    authority = None if found is None else parse_authority(found.group(1))
    # A proxy may give the service another Host than the page has.
    return authority is not None and (authority == host or is_named(authority.host, allowed))
