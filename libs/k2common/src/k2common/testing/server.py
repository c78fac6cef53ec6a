"""An application on a socket of its own, for tests of what a client in the same process cannot do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from k2common.runtime.service import server_config


@asynccontextmanager
async def on_socket(app: ASGIApp) -> AsyncIterator[int]:
    """Serve the application as a service does, on a free port of the loopback, and give the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, host="127.0.0.1", port=0, graceful_seconds=1))
    serving = asyncio.create_task(server._serve(sockets=[listening]))  # noqa: SLF001 - leaves the signals
    while not server.started:  # noqa: ASYNC110 - the server has no event
        await asyncio.sleep(0.01)
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await serving


async def sent(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection and write the bytes of a request, or of a part of one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    return reader, writer


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read the status and the body of an answer with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    length = next(
        (int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length")),
        0,
    )
    return status, await reader.readexactly(length)
