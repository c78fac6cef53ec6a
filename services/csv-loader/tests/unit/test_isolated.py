"""One child parses chunk after chunk; what ends it fails its own upload, and the next chunk gets another."""

import sys
from datetime import UTC, datetime

import pytest
from csv_loader.isolated import IsolatedParser
from csv_loader.partition import Position
from csv_loader.processing import Chunk, Encoders, Processed
from k2common.layouts.upload import UploadSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHILD = """
import os, signal
from csv_loader.isolated import main
from csv_loader.processing import Processed

def parse(chunk, **_):
    if chunk.upload.source == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if chunk.upload.source == "hangs":
        signal.pause()
    return Processed(chunk=chunk, rows_read=os.getpid())

main(parse)
"""


def chunk(source: str) -> Chunk:
    upload = UploadSpec(
        upload_id="U",
        dataset="trades",
        layout="k2",
        layout_json="",
        source=source,
        bytes=0,
        sha256="",
        received_at=NOW,
    )
    return Chunk(message={"index": 0}, upload=upload)


async def parsed(parser: IsolatedParser, source: str, *, limit_seconds: float = 60) -> Processed:
    encoders = Encoders(by_dataset={}, batch_bytes=1)
    return await parser.process(
        chunk(source), encoders=encoders, instruments=None, now=NOW, limit_seconds=limit_seconds
    )


async def test_one_child_is_kept_and_replaced_when_it_dies_or_takes_too_long() -> None:
    parser = IsolatedParser((sys.executable, "-c", CHILD))
    first, second = await parsed(parser, "good"), await parsed(parser, "good")
    dead = await parsed(parser, "dies")
    third = await parsed(parser, "good")
    hung = await parsed(parser, "hangs", limit_seconds=0.2)
    await parser.close()
    assert first.rows_read == second.rows_read != third.rows_read
    assert (dead.failure, dead.failure_reason) == (
        "CHUNK_UNPARSEABLE",
        "the parser ended with exit code -9",
    )
    assert hung.failure_reason == "the chunk was not parsed within 0.2 seconds"


@pytest.mark.parametrize(
    ("by", "deaths"), [(None, 2), ("this", 1), ("another", 2)], ids=["closed", "own", "another's"]
)
def test_an_attempt_that_this_process_survived_is_no_death(by: str | None, deaths: int) -> None:
    assert Position(offset=5, attempts=2, attempt_by=by).deaths("this") == deaths
