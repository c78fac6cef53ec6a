"""A chunk parsed in a process of its own: one that ends its parser fails its upload and nothing else.

`python -m csv_loader.isolated` takes the arguments of `process` on standard input and gives its result on
standard output. Both ends are this package in the same environment.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from asyncio.subprocess import PIPE
from datetime import datetime

from k2common.layouts.instruments import InstrumentIndex
from k2common.observability.logging import get_logger

from csv_loader.processing import UNPARSEABLE, Chunk, Encoders, Processed, process

log = get_logger(__name__)
LAST_BYTES = 4096


async def process_isolated(
    chunk: Chunk,
    *,
    encoders: Encoders,
    instruments: InstrumentIndex | None,
    now: datetime,
    limit_seconds: float,
) -> Processed:
    """What `process` gives; a failure of the upload when the child dies or takes too long."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "csv_loader.isolated", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    told = b""
    try:
        async with asyncio.timeout(limit_seconds):
            result, told = await child.communicate(pickle.dumps((chunk, encoders, instruments, now)))
    except TimeoutError:
        result = b""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0 and result:
        processed: Processed = pickle.loads(result)  # noqa: S301 - our own child's
        return processed
    log.error("a chunk cannot be parsed", index=chunk.message["index"], exit_code=child.returncode)
    # It may hold what stood in the rows.
    log.debug("what the parser said", told=told[-LAST_BYTES:].decode("utf-8", "replace"))
    return Processed(chunk=chunk, failure=UNPARSEABLE)


def main() -> None:
    """The child."""
    arguments = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - our own parent's
    chunk, encoders, instruments, now = arguments
    processed = process(chunk, encoders=encoders, instruments=instruments, now=now)
    sys.stdout.buffer.write(pickle.dumps(processed))


if __name__ == "__main__":
    main()
