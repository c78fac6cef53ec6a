"""Connections on which a client makes no progress are aborted, so that they do not add up."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 60.0
MALFORMED = {
    "type": "urn:k2:problem:malformed-request",
    "title": HTTPStatus.BAD_REQUEST.phrase,
    "status": HTTPStatus.BAD_REQUEST.value,
    "detail": "the request is no HTTP/1.1, or its head is too long",
    "instance": None,
    "code": "MALFORMED_REQUEST",
    "request_id": None,
    "errors": [],
}
"""The problem document of what never becomes a request of an application."""
MIN_BYTES = 16 * 1024
"""A client that is waited for sends at least so much in half of `idle_seconds`."""


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1; a connection that waits for its client is aborted after `idle_seconds`.

    It waits where a request's head has begun or the first one has not come, where the rest of a body does not
    come that was answered already, and where the answer on a closed connection is not read. All else has
    limits of its own: requests that are being answered, and idle connections.
    """

    idle_seconds = IDLE_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next_look: asyncio.TimerHandle | None = None
        self._received = 0
        self._stood_still = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection."""
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes."""
        self._received += len(data)
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed in the shape of every other error, and close the connection."""
        body = json.dumps(MALFORMED).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        status = HTTPStatus.BAD_REQUEST
        answer = h11.Response(status_code=status.value, headers=headers, reason=status.phrase.encode())
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(self.idle_seconds / 2, self._abort_if_still)

    def _abort_if_still(self) -> None:
        stands_still = self._waits_for_client() and self._received < MIN_BYTES
        if stands_still and self._stood_still:
            self.transport.abort()
            return
        self._received, self._stood_still = 0, stands_still
        self._look_later()

    def _waits_for_client(self) -> bool:
        if self.transport.is_closing() or self.cycle is None:
            return True
        if not self.cycle.response_complete:
            return False
        return self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
