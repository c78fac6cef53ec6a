"""Statuses add up to the same whatever their order and however often one comes."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.domain.progress import Progress


def status(index: int, **fields: Any) -> dict[str, Any]:
    known = {
        "upload_id": "U1",
        "dataset": "trades",
        "index": index,
        "terminal": False,
        "cancelled": False,
        "rows_read": 10,
        "rows_accepted": 9 - index,
        "rows_rejected": 1 + index,
        "rows_filtered": 0,
        "errors": [{"column": "price", "code": "NUMBER_INVALID", "count": 1 + index}],
        "outputs": [{"topic": "t", "partition": index % 2, "base_offset": 10 * index, "count": 5}],
        "kafka_epoch": 0,
        "on_error": "skip_row",
        "max_reject_ratio": None,
        "replaces": None,
        "failure": None,
        "processed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return {**known, **fields}


WHOLE = [*(status(n) for n in range(4)), status(4, terminal=True, outputs=[], errors=[])]


@given(st.permutations(WHOLE + WHOLE[:3]))
def test_order_and_repetition_change_nothing(messages: list[dict[str, Any]]) -> None:
    progress = Progress.of(messages[0])
    for message in messages[1:]:
        progress.add(message)
    assert progress.complete
    assert (progress.rows_read, progress.rows_accepted, progress.rows_rejected) == (40, 30, 10)
    assert progress.errors == {("price", "NUMBER_INVALID"): 10}
    assert progress.ends == {("t", 0): (0, 25), ("t", 1): (0, 35)}


def test_an_upload_is_complete_only_with_every_chunk() -> None:
    progress = Progress.of(WHOLE[4])
    for message in WHOLE[:3]:
        progress.add(message)
        assert not progress.complete
    progress.add(WHOLE[3])
    assert progress.complete


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, "committed"),
        ({"on_error": "abort"}, "failed"),
        ({"on_error": "abort", "rows_rejected": 0}, "committed"),
        ({"max_reject_ratio": 0.1}, "committed"),
        ({"max_reject_ratio": 0.09}, "failed"),
        ({"failure": "CHUNK_UNPARSEABLE"}, "failed"),
    ],
)
def test_the_outcome(fields: dict[str, Any], outcome: str) -> None:
    assert Progress.of(status(0, **fields)).outcome == outcome


def test_a_cancelled_upload() -> None:
    progress = Progress.of(status(0))
    progress.add(status(1, terminal=True, cancelled=True))
    assert progress.outcome == "cancelled"


def test_only_offsets_past_all_output_cover() -> None:
    progress = Progress.of(status(0))
    assert not progress.covered("t", epoch=0, offsets={0: 4}, ended={})
    assert progress.covered("t", epoch=0, offsets={0: 5}, ended={})
    assert progress.covered("other", epoch=0, offsets={}, ended={})
    # The log went on in another epoch, or it ended, with all or without the end of the upload.
    assert not progress.covered("t", epoch=1, offsets={0: 4}, ended={})
    assert progress.covered("t", epoch=1, offsets={0: 5}, ended={})
    assert progress.covered("t", epoch=1, offsets={}, ended={0: {0: 5}})
    assert not progress.covered("t", epoch=1, offsets={0: 9}, ended={0: {0: 4}})
    assert [progress.lost("t", ended={0: {0: end}}) for end in (4, 5)] == [True, False]
    assert not progress.lost("other", ended={0: {}})
