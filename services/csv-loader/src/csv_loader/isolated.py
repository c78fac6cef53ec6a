"""Chunks parsed in a process of their own: one that ends its parser fails its upload and nothing else.

`python -m csv_loader.isolated` reads the arguments of `process` from standard input and writes its results to
standard output, each a pickle behind its length, until the input ends. Both ends are this package in the same
environment.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from datetime import datetime

from k2common.layouts.instruments import InstrumentIndex

from csv_loader.processing import Chunk, Encoders, Processed, process, unparseable

LENGTH_BYTES = 8
TRIES = 2
"""Somebody else may have ended the child once."""
ORPHAN_SECONDS = 5
COMMAND = (sys.executable, "-m", "csv_loader.isolated")


class IsolatedParser:
    """Keeps one child and gives it one chunk at a time; a child that has died is replaced."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._child: Process | None = None
        self._lock = asyncio.Lock()

    async def process(
        self,
        chunk: Chunk,
        *,
        encoders: Encoders,
        instruments: InstrumentIndex | None,
        now: datetime,
        limit_seconds: float,
    ) -> Processed:
        """What `process` gives; a failure of the upload when the child dies of it or takes too long."""
        request = pickle.dumps((chunk, encoders, instruments, now, limit_seconds))
        async with self._lock:
            for _ in range(TRIES):
                try:
                    async with asyncio.timeout(limit_seconds):
                        return await self._answer(request)
                except TimeoutError:
                    await self._end()
                    reason = f"the chunk was not parsed within {limit_seconds} seconds"
                    return unparseable(chunk, reason=reason, cause="time limit")
                except (asyncio.IncompleteReadError, ConnectionError):
                    code = await self._end()
                # Also when cancelled: the child's next answer would be that of this chunk.
                except BaseException:
                    await self._end()
                    raise
        return unparseable(chunk, reason=f"the parser ended with exit code {code}", cause=f"exit code {code}")

    async def close(self) -> None:
        """End the child."""
        async with self._lock:
            await self._end()

    async def _answer(self, request: bytes) -> Processed:
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
            )
        into, out = self._child.stdin, self._child.stdout
        if into is None or out is None:
            raise AssertionError("the child was begun with pipes")
        into.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
        await into.drain()
        length = int.from_bytes(await out.readexactly(LENGTH_BYTES), "big")
        processed: Processed = pickle.loads(await out.readexactly(length))  # noqa: S301 - our own child's
        return processed

    async def _end(self) -> int | None:
        child, self._child = self._child, None
        if child is None:
            return None
        if child.returncode is None:
            # What died by itself keeps its own exit code.
            await asyncio.wait({waited := asyncio.create_task(child.wait())}, timeout=0.1)
            if not waited.done():
                child.kill()
            await waited
        return child.returncode


def main(parse: Callable[..., Processed] = process) -> None:
    """The child."""
    into, out = sys.stdin.buffer, sys.stdout.buffer
    while head := into.read(LENGTH_BYTES):
        request = pickle.loads(into.read(int.from_bytes(head, "big")))  # noqa: S301 - our own parent's
        chunk, encoders, instruments, now, limit_seconds = request
        # The parent ends a child in time unless it is gone itself.
        signal.alarm(int(limit_seconds) + ORPHAN_SECONDS)
        answer = pickle.dumps(parse(chunk, encoders=encoders, instruments=instruments, now=now))
        signal.alarm(0)
        out.write(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
        out.flush()


if __name__ == "__main__":
    main()
