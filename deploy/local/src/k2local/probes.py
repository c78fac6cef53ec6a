"""Requests that find out whether a component answers."""

from __future__ import annotations

from functools import cache

import httpx

TIMEOUT_SECONDS = 2


def answers_ok(url: str) -> bool:
    """Whether a GET of `url` is answered with 200 within two seconds."""
    try:
        return client().get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@cache
def client() -> httpx.Client:
    """Return the client of all probes; it keeps no connection, since what it asks may be restarted.

    To make a client costs 25 ms of CPU, for certificates that no probe needs.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, timeout=TIMEOUT_SECONDS, limits=limits)
