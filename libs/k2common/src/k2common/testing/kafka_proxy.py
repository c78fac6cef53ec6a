"""A proxy in front of one Kafka broker that can lose, hold, answer or delay single requests.

It reads the length-prefixed frames of Kafka's protocol and the header that all requests share: API key, API
version, correlation id. https://kafka.apache.org/protocol#protocol_messages
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from types import TracebackType
from typing import Self

LENGTH = struct.Struct(">i")
REQUEST = struct.Struct(">hhi")
CORRELATION = struct.Struct(">i")


class ApiKey(IntEnum):
    """The requests that tests and chaos runs aim at."""

    PRODUCE = 0
    FETCH = 1
    METADATA = 3
    FIND_COORDINATOR = 10
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    END_TXN = 26
    DESCRIBE_CLUSTER = 60


END_TXN_ACCEPTED = struct.pack(">ih", 0, 0)
"""The body of an answer to EndTxn without an error: throttle time, error code."""
ADDRESSES = (ApiKey.METADATA, ApiKey.FIND_COORDINATOR, ApiKey.DESCRIBE_CLUSTER)
"""Their answers name the broker's address, which becomes the proxy's."""


class Fault(Enum):
    """What happens to an intercepted request."""

    LATE = auto()
    """The connection is reset; the request reaches the broker when `Interception.deliver` is called."""
    ANSWER_LOST = auto()
    """The broker carries the request out; the connection is reset in place of the answer."""
    ANSWERED = auto()
    """The proxy answers `Interception.answer`; the broker never sees the request."""
    DELAYED = auto()
    """The connection stays; the request goes on when `Interception.proceed` is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedRequest:
    """One request as it was received; `frame` includes its length prefix."""

    api_key: int
    api_version: int
    correlation_id: int
    frame: bytes


@dataclass(slots=True, kw_only=True, eq=False)
class Interception:
    """Applies `fault` to the next `remaining` requests that match; `happened` is set at the first."""

    api_key: ApiKey
    fault: Fault
    remaining: int = 1
    answer: bytes = b""
    matches: Callable[[ProxiedRequest], bool] = lambda _: True
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    proceed: asyncio.Event = field(default_factory=asyncio.Event)
    undelivered: list[tuple[ProxiedRequest, _BrokerConnection]] = field(default_factory=list)

    async def deliver(self) -> list[bytes]:
        """Send the requests that are held to the broker; return its answers without their headers."""
        requests, self.undelivered = self.undelivered, []
        answers = []
        for request, broker in requests:
            broker.writer.write(request.frame)
            await broker.writer.drain()
            answers.append((await _read_frame(broker.reader))[LENGTH.size + CORRELATION.size :])
            await _close(broker.writer)
        return answers


@dataclass(frozen=True, slots=True)
class _BrokerConnection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class KafkaProxy(AbstractAsyncContextManager["KafkaProxy"]):
    """Forwards to the broker at `broker`; clients that bootstrap here stay here.

    `port` 0 takes a free one. `counts` holds the requests received by API key.
    """

    def __init__(self, broker: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.counts: Counter[int] = Counter()
        self._broker = broker
        self._host = host
        self._port = port
        self._interceptions: list[Interception] = []
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The proxy's address."""
        return f"{self._host}:{self._port}"

    def intercept(
        self,
        api_key: ApiKey,
        fault: Fault,
        *,
        times: int = 1,
        answer: bytes = b"",
        matches: Callable[[ProxiedRequest], bool] = lambda _: True,
    ) -> Interception:
        """Apply `fault` to the next `times` requests of this key that match."""
        interception = Interception(
            api_key=api_key, fault=fault, remaining=times, answer=answer, matches=matches
        )
        self._interceptions.append(interception)
        return interception

    def reset_connections(self) -> None:
        """Reset every open connection of clients."""
        for writer in tuple(self._connections.values()):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        while self._connections:
            for connection in tuple(self._connections):
                connection.cancel()
            await asyncio.sleep(0)
        for interception in self._interceptions:
            for _, broker in interception.undelivered:
                await _close(broker.writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarding = asyncio.create_task(self._forward(reader, writer))
        self._connections[forwarding] = writer
        await asyncio.wait({forwarding})
        del self._connections[forwarding]
        writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker = _BrokerConnection(*await asyncio.open_connection(*self._broker))
        except OSError:
            # The broker is down: the client's connection is closed, as the broker's port would do.
            return
        pending: dict[int, int] = {}
        lost: set[int] = set()
        answers = asyncio.create_task(self._answer(broker.reader, writer, pending, lost))
        kept = False
        try:
            while not kept:
                request = _parse(await _read_frame(reader))
                self.counts[request.api_key] += 1
                pending[request.correlation_id] = request.api_key
                interception = self._interception(request)
                if interception is not None and interception.fault is Fault.LATE:
                    answers.cancel()
                    interception.undelivered.append((request, broker))
                    kept = True
                elif interception is not None and interception.fault is Fault.ANSWERED:
                    body = CORRELATION.pack(request.correlation_id) + interception.answer
                    writer.write(LENGTH.pack(len(body)) + body)
                else:
                    if interception is not None and interception.fault is Fault.ANSWER_LOST:
                        lost.add(request.correlation_id)
                    elif interception is not None:
                        await interception.proceed.wait()
                    broker.writer.write(request.frame)
                    await broker.writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            answers.cancel()
            if not kept:
                broker.writer.close()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pending: dict[int, int],
        lost: set[int],
    ) -> None:
        try:
            while True:
                frame = await _read_frame(reader)
                (correlation_id,) = CORRELATION.unpack_from(frame, LENGTH.size)
                if correlation_id in lost:
                    return
                if pending.pop(correlation_id, None) in ADDRESSES:
                    frame = self._rewritten(frame)
                writer.write(frame)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def _rewritten(self, frame: bytes) -> bytes:
        # In every version of these answers a port of four bytes follows its host; the length stays the same.
        host, port = self._broker
        old, new = (host.encode() + LENGTH.pack(one) for one in (port, self._port))
        return frame.replace(old, new)

    def _interception(self, request: ProxiedRequest) -> Interception | None:
        for one in self._interceptions:
            if one.remaining and one.api_key == request.api_key and one.matches(request):
                one.remaining -= 1
                one.happened.set()
                return one
        return None


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    prefix = await reader.readexactly(LENGTH.size)
    return prefix + await reader.readexactly(*LENGTH.unpack(prefix))


def _parse(frame: bytes) -> ProxiedRequest:
    api_key, api_version, correlation_id = REQUEST.unpack_from(frame, LENGTH.size)
    return ProxiedRequest(
        api_key=api_key, api_version=api_version, correlation_id=correlation_id, frame=frame
    )


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
