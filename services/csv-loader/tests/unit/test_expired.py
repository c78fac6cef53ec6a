"""What counts as lost: what was published, is not parsed, and is no longer there to be parsed."""

from typing import Any

import pytest
from csv_loader.expired import incomplete
from k2common.domain.progress import CHUNKS_EXPIRED, Progress

from tests.integration.loader.chunks import chunk

UPLOAD = "01M86KAY8WBQN4BGJ0DGREQQCB"


def claim(state: str, next_chunk: int) -> dict[str, Any]:
    return {"upload": chunk(UPLOAD, "trades")["upload"], "state": state, "next_chunk": next_chunk}


@pytest.mark.parametrize(
    ("state", "next_chunk", "parsed", "held", "lost"),
    [
        ("published", 2, {0, 1, 2}, set(), False),
        ("published", 2, {0, 1}, set(), True),
        ("published", 2, {0}, {1, 2}, False),
        ("published", 2, set(), {1, 2}, True),
        ("publishing", 2, {0}, {1}, False),
        ("publishing", 2, {1}, set(), True),
        ("claimed", 0, set(), set(), False),
        ("published", 0, set(), set(), True),
    ],
)
def test_lost_is_what_is_neither_parsed_nor_held(
    state: str, next_chunk: int, parsed: set[int], held: set[int], lost: bool
) -> None:
    ends = incomplete([claim(state, next_chunk)], parsed={UPLOAD: parsed}, held={UPLOAD: held})
    assert [end.upload.upload_id for end in ends] == ([UPLOAD] if lost else [])
    assert all(end.message["terminal"] and end.message["index"] == next_chunk for end in ends)


def test_an_upload_that_has_lost_chunks_is_complete_and_failed() -> None:
    progress = Progress(upload_id=UPLOAD, dataset="trades", failure=CHUNKS_EXPIRED)
    assert (progress.complete, progress.outcome) == (True, "failed")
