"""A request of the service's own, answered by its application as any other, its rows taken as they come."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator, Mapping
from queue import Queue
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
from fastapi import Request
from k2common.http.problems import Problem
from starlette.types import ASGIApp, Message, Scope

from query_service.citations.citations import Rows, digest_of

PARTS = 8
KEPT = (b"authorization", b"x-api-key", b"host")
END = b""


class Rerun:
    """Asks the application for an Arrow stream and digests it; so many at a time."""

    def __init__(self, app: ASGIApp, *, side_by_side: int = 2) -> None:
        self._app = app
        self._slots = asyncio.Semaphore(side_by_side)

    async def get(self, request: Request, path: str, parameters: Mapping[str, Any]) -> Rows:
        """The rows of a GET. Raises the Problem that it was answered with."""
        given = {name: value for name, value in parameters.items() if value is not None}
        # Half of a surrogate pair, which JSON can hold, has no form in a query.
        query = urlencode({**given, "format": "arrow"}, errors="replace").encode()
        return await self._run(_scope(request, "GET", path, query), b"")

    async def post(self, request: Request, path: str, body: Mapping[str, Any]) -> Rows:
        """The rows of a POST. Raises the Problem that it was answered with."""
        return await self._run(_scope(request, "POST", path, b""), json.dumps(body).encode())

    async def _run(self, scope: Scope, body: bytes) -> Rows:
        async with self._slots:
            answer = _Answer(body)
            counted = asyncio.create_task(asyncio.to_thread(answer.digested))
            try:
                await self._app(scope, answer.receive, answer.send)
            finally:
                # Also where the application failed in the middle: what is cut off cannot be read to its end.
                answer.end()
                rows, sha256 = await _settled(counted)
        answer.raise_problem()
        return Rows(version=answer.version or None, rows=rows, sha256=sha256)


class _Answer:
    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        self._parts: Queue[bytes] = Queue(PARTS)
        self._problem: list[bytes] = []
        self._status = 0
        self._ended = False
        self.version = ""

    async def receive(self) -> Message:
        if self._body is None:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = dict(message["headers"])
            self.version = headers.get(b"x-k2-version", b"").decode()
        elif self._status != 200:
            self._problem.append(message.get("body", b""))
        elif message.get("body"):
            await asyncio.to_thread(self._parts.put, message["body"])

    def end(self) -> None:
        self._gone.set()
        if not self._ended:
            self._ended = True
            self._parts.put(END)

    def digested(self) -> tuple[int, str]:
        """In a thread: number and digest of the rows, as they come."""
        stream = _Stream(self._parts)
        try:
            with pa.ipc.open_stream(pa.PythonFile(stream, mode="r")) as reader:
                return digest_of(reader)
        except (pa.ArrowException, EOFError, TypeError, AttributeError) as error:
            return -1, str(error)
        finally:
            stream.drain()

    def raise_problem(self) -> None:
        if self._status == 200:
            return
        told = json.loads(b"".join(self._problem) or b"{}")
        raise Problem(
            self._status or 500,
            str(told.get("code", "INTERNAL")),
            str(told.get("detail", "the answer failed")),
            extra={name: told[name] for name in ("position",) if name in told},
        )


class _Stream(io.RawIOBase):
    """What comes through a queue as a file; it ends with an empty part."""

    def __init__(self, parts: Queue[bytes]) -> None:
        self._source = self._taken(parts)
        self._rest = b""

    @staticmethod
    def _taken(parts: Queue[bytes]) -> Iterator[bytes]:
        while part := parts.get():
            yield part

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        kept = [self._rest]
        length = len(self._rest)
        while length < size and (part := next(self._source, b"")):
            kept.append(part)
            length += len(part)
        data = b"".join(kept)
        self._rest = data[size:]
        return data[:size]

    def drain(self) -> None:
        """Take what is left, so that the writer is never held up."""
        for _ in self._source:
            pass


async def _settled(task: asyncio.Task[tuple[int, str]]) -> tuple[int, str]:
    return await asyncio.shield(task)


def _scope(request: Request, method: str, path: str, query: bytes) -> Scope:
    headers = [(name, value) for name, value in request.scope["headers"] if name in KEPT]
    return {
        **{name: request.scope[name] for name in ("http_version", "scheme", "server", "client")},
        "asgi": request.scope.get("asgi", {"version": "3.0"}),
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [*headers, (b"content-type", b"application/json")],
    }
