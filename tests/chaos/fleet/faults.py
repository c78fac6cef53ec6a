"""What is done to a running fleet: processes killed, the broker frozen, requests late, strays, silence."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
from aiokafka import AIOKafkaProducer
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.encode import RecordEncoder
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import TOPICS, TRADES, avro_schema
from k2common.settings.registry import RegistrySettings
from k2common.testing.iceberg import trade_rows
from k2common.testing.kafka_proxy import ApiKey, Fault, KafkaProxy
from k2local import cli
from k2local.testing import Fleet

BROKER_FROZEN_SECONDS = 10.5
"""Longer than the session that the controller grants the broker: on waking it may skip commit markers."""
LATE_SECONDS = 1.0
INTERCEPT_SECONDS = 20.0
STRAYS = (b"", b"garbage", b"\x00\x7f\xff\xff\xff of no known schema", None)
CALL_SECONDS = 60.0

Result = TypeVar("Result")


class EventLoopThread:
    """An event loop in a thread of its own, for the asynchronous parts of a test that runs threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result; any thread may call this."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_SECONDS)

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def kill_component(fleet: Fleet, name: str) -> None:
    """SIGKILL a component in whatever state it is; its supervisor starts it again."""
    deadline = time.monotonic() + CALL_SECONDS
    while (pid := _pid(fleet, name)) is None:
        assert time.monotonic() < deadline, f"{name} does not run"
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def freeze_broker(fleet: Fleet) -> None:
    """Stop the broker's process for longer than its session, then let it go on."""
    with fleet.hanging("kafka"):
        time.sleep(BROKER_FROZEN_SECONDS)


def flip_bit(path: Path, random: Random) -> None:
    """Turn one bit of the file, unless it has been deleted."""
    with suppress(FileNotFoundError):
        content = bytearray(path.read_bytes())
        at = random.randrange(8 * len(content))
        content[at // 8] ^= 1 << at % 8
        path.write_bytes(content)


def repair_files(url: str) -> Counter[str] | None:
    """Have the sink at `url` repair all tables: how many lost files it left in each state.

    None when it could not do so now.
    """
    with suppress(httpx.TransportError):
        answer = httpx.post(f"{url}/v1/maintenance/repair", timeout=CALL_SECONDS, trust_env=False)
        if answer.status_code == httpx.codes.OK:
            found: Counter[str] = Counter()
            for table in answer.json()["data"]:
                found.update(file["state"] for file in table["files"])
            return found
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
    return None


def delay_request(loop: EventLoopThread, proxy: KafkaProxy, api_key: ApiKey) -> bool:
    """Reset the connection of the next such request and deliver the request a second later.

    Returns whether there was one to delay.
    """

    async def delayed() -> bool:
        interception = proxy.intercept(api_key, Fault.LATE)
        try:
            async with asyncio.timeout(INTERCEPT_SECONDS):
                await interception.happened.wait()
        except TimeoutError:
            interception.remaining = 0
            return False
        await asyncio.sleep(LATE_SECONDS)
        async with asyncio.timeout(INTERCEPT_SECONDS):
            with suppress(OSError, asyncio.IncompleteReadError):
                await interception.deliver()
        return True

    return loop.run(delayed())


def send_strays(loop: EventLoopThread, fleet: Fleet, upload_id: str) -> int:
    """Send what no service wrote to every topic, among it a valid trade that names `upload_id`.

    Returns the number of messages on market.trades.
    """

    async def sent() -> int:
        registry = SchemaRegistry(RegistrySettings(url=fleet.settings.registry_url, timeout_seconds=10))
        schema = avro_schema(TRADES.topic.schema)
        schema_id = await registry.ensure(TRADES.topic.subject, schema)
        names = [entry["name"] for entry in schema["fields"]]
        rows = trade_rows(0, 1, upload=upload_id).select(names).to_pylist()
        batch = pa.RecordBatch.from_pylist(rows, schema=arrow_schema(schema))
        valid = RecordEncoder(schema, schema_id).messages(batch)[0].as_py()
        async with AIOKafkaProducer(bootstrap_servers=fleet.settings.bootstrap_servers) as producer:
            for topic in TOPICS:
                for value in STRAYS:
                    await producer.send_and_wait(topic.name, value=value, key=b"stray", partition=0)
            await producer.send_and_wait(TRADES.topic.name, value=valid, key=b"stray", partition=0)
        return len(STRAYS) + 1

    return loop.run(sent())


class SilentClients:
    """Connections that promise a body and send none, and that ask for a stream and read none of it."""

    def __init__(self) -> None:
        self._sockets = ExitStack()

    def post_nothing(self, url: str, count: int) -> None:
        """Begin `count` uploads and send nothing of their bodies."""
        head = (
            "POST /v1/uploads?dataset=trades HTTP/1.1\r\n"
            f"Host: {urlsplit(url).netloc}\r\nContent-Type: text/csv\r\nContent-Length: 1000000\r\n\r\n"
        )
        self._open(url, head, count)

    def read_nothing(self, url: str, path: str, count: int) -> None:
        """Ask `count` times for a stream and read none of it."""
        self._open(url, f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n", count)

    def close(self) -> None:
        """Close all connections."""
        self._sockets.close()

    def _open(self, url: str, head: str, count: int) -> None:
        parts = urlsplit(url)
        for _ in range(count):
            connection = self._sockets.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            with suppress(OSError):
                connection.connect((parts.hostname, parts.port))
                connection.sendall(head.encode())


def _pid(fleet: Fleet, name: str) -> int | None:
    return next((state.pid for state in cli.status(fleet.settings) if state.name == name), None)
