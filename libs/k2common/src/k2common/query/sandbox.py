"""SQL of strangers, each statement in a process of its own that is killed when its time is over."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from k2common.engine.budget import MemoryBudget
from k2common.engine.connection import QueryInterrupted, QueryTooLarge, ValueOutOfRange
from k2common.engine.statements import StatementRefused
from k2common.errors import TransientError
from k2common.query.admission import AdmissionQueue
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.sandbox import SandboxSettings

STORE = (
    "catalog_uri",
    "warehouse",
    "s3_endpoint",
    "s3_region",
    "s3_access_key_id",
    "s3_secret_access_key",
    "s3_virtual_hosts",
    "s3_timeout_seconds",
)
HEAD_BYTES = 5
FRAME_BYTES = 256 * 1024 * 1024
LEAST_MEGABYTES = 128
"""Of one statement, whatever the queries have."""
KEPT = ("LD_LIBRARY_PATH", "LD_PRELOAD")
"""What a process keeps of the environment: nothing that could be a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a judged statement reads, and what its answer looks like.

    `statements` make the views, `variables` hold their values, `datasets` are those that they read, `paths`
    are all that may be opened. `sorted` orders the rows by all columns.
    """

    datasets: Sequence[str]
    statements: Sequence[str]
    variables: Mapping[str, Any]
    paths: Sequence[str]
    format: str
    limit: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sorted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEnd:
    """How an answer ended: its rows, and whether `limit` cut it off."""

    rows: int
    more: bool


class Sandbox:
    """Runs statements, `running` of them at a time. A process serves one and is never used again."""

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        warehouse: IcebergSettings | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """`warehouse` says how to read one that is no folder; `budget` is shared with the engine."""
        self._settings = settings
        self._budget = budget or MemoryBudget(settings.memory_megabytes * settings.concurrent_statements)
        wanted = min(LEAST_MEGABYTES, settings.memory_megabytes)
        self._least = self._budget.least_share(settings.concurrent_statements, wanted=wanted)
        self._warehouse = None if warehouse is None or not warehouse.on_s3 else _told_once(warehouse)
        self._gate = AdmissionQueue(
            width=settings.concurrent_statements,
            waiting=settings.max_queued_statements,
            seconds=settings.queue_timeout_seconds,
            per_caller=settings.statements_per_caller,
        )
        self._ending: set[asyncio.Task[None]] = set()
        self._spare: asyncio.Task[asyncio.subprocess.Process] | None = None

    @property
    def waiting(self) -> int:
        """How many statements wait."""
        return self._gate.waiting

    @property
    def running(self) -> int:
        """How many statements run."""
        return self._gate.inside

    @asynccontextmanager
    async def statement(self, sql: str, views: Set[str]) -> AsyncIterator[Statement]:
        """A judged statement.

        Raises StatementRefused, what the gate raises, and QueryInterrupted past the time limit.
        """
        async with self._gate.passed():
            megabytes = self._budget.take(self._least, self._settings.memory_megabytes)
            try:
                process = await self._process()
                try:
                    running = Statement(
                        process, self._settings, megabytes=megabytes, warehouse=self._warehouse
                    )
                    await running.judge(sql, views)
                    yield running
                finally:
                    self._end(process)
            finally:
                self._budget.give_back(megabytes, self._least)

    async def close(self) -> None:
        """End the process that waits for a statement, and wait for those that were killed."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            self._end(await spare)
        while self._ending:
            await asyncio.wait(self._ending)

    def _end(self, process: asyncio.subprocess.Process) -> None:
        """Kill it now, and clear up after it whatever becomes of the caller."""
        with suppress(ProcessLookupError):
            process.kill()
        task = asyncio.create_task(_cleared(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _process(self) -> asyncio.subprocess.Process:
        spare = self._spare or asyncio.create_task(_started())
        # The next one starts while this one works.
        self._spare = asyncio.create_task(_started())
        return await spare


class Statement:
    """A statement in its process; it answers within the time that all of it may take."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        settings: SandboxSettings,
        *,
        megabytes: int,
        warehouse: Mapping[str, Any] | None = None,
    ) -> None:
        self._process = process
        self._megabytes = megabytes
        self._warehouse = warehouse
        self._settings = settings
        self._left = settings.statement_seconds
        self._bytes = 0
        self._late = False
        self.tables: Sequence[str] = ()
        self.ended: StatementEnd | None = None

    async def judge(self, sql: str, views: Set[str]) -> None:
        """Learn `tables`, the views that it reads. Raises StatementRefused."""
        question = {
            "sql": sql,
            "views": sorted(views),
            "memory_megabytes": self._megabytes,
            "threads": self._settings.threads,
            "warehouse": self._warehouse,
        }
        self._tell(question)
        _, data = await self._frame()
        self.tables = json.loads(data)["tables"]

    async def run(self, task: Task) -> AsyncIterator[bytes]:
        """The bytes of the answer; once they are all there, `ended` says how it ended.

        Raises QueryInterrupted, QueryTooLarge, ValueOutOfRange, StatementRefused and TransientError. The time
        that a slow reader takes has a limit of its own, after which the answer ends in QueryInterrupted.
        """
        self._tell({name: getattr(task, name) for name in Task.__dataclass_fields__})
        # A reader who takes nothing must not keep the process and its memory.
        watch = asyncio.get_running_loop().call_later(self._settings.answer_seconds, self._end)
        try:
            while (frame := await self._frame())[0] != b"D":
                self._bytes += len(frame[1])
                if self._bytes > self._settings.answer_megabytes * 1024 * 1024:
                    limit = self._settings.answer_megabytes
                    raise QueryTooLarge(f"the answer is larger than {limit} megabytes")
                yield frame[1]
            self.ended = StatementEnd(**json.loads(frame[1]))
        finally:
            watch.cancel()

    def _end(self) -> None:
        self._late = True
        with suppress(ProcessLookupError):
            self._process.kill()

    def _tell(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _frame(self) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._left):
                kind, data = await self._read()
        except TimeoutError as error:
            raise QueryInterrupted(f"not done in {self._settings.statement_seconds:g} seconds") from error
        finally:
            self._left -= loop.time() - started
        if kind == b"E":
            raise _failure(json.loads(data))
        return kind, data

    async def _read(self) -> tuple[bytes, bytes]:
        stream = self._process.stdout
        if stream is None:
            raise RuntimeError("the process has no output")
        try:
            head = await stream.readexactly(HEAD_BYTES)
            size = int.from_bytes(head[1:], "big")
            if size > FRAME_BYTES:
                raise QueryTooLarge("a part of the answer is too large")
            return head[:1], await stream.readexactly(size)
        except asyncio.IncompleteReadError as error:
            if self._late:
                limit = self._settings.answer_seconds
                raise QueryInterrupted(f"not read in {limit:g} seconds") from error
            # It died of what it was asked to do; memory is what such a process can run out of.
            raise QueryTooLarge("the statement needs more memory than it may have") from error


def _told_once(warehouse: IcebergSettings) -> Mapping[str, Any]:
    """What a process has to know to read an object store; the key goes through its input alone."""
    known = {name: getattr(warehouse, name) for name in STORE}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in known.items()
    }


FAILURES: Mapping[str, Any] = {
    "too_large": QueryTooLarge,
    "value": ValueOutOfRange,
    "unavailable": TransientError,
}


def _failure(told: Mapping[str, Any]) -> Exception:
    message = str(told["message"])
    if told["kind"] in FAILURES:
        failure: Exception = FAILURES[told["kind"]](message)
        return failure
    return StatementRefused(message, position=told.get("position"), malformed=told["kind"] == "invalid")


async def _started() -> asyncio.subprocess.Process:
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "k2common.engine.cell",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=2**16,
        start_new_session=True,
    )


async def _cleared(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    # Reads what is left, so that both pipes are closed.
    await process.communicate()
