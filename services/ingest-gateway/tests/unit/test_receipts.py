"""A receipt says where an upload is by offsets, and names the first version that has all of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ingest_gateway.claims.claims import Claim
from ingest_gateway.receipts.dead_letters import DeadLetters
from ingest_gateway.receipts.receipts import final_record, receipt, settled
from ingest_gateway.receipts.tracker import Commits, Tracker
from k2common.domain.dead_letters import DeadLetter
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import REJECTS, TRADES
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import HiddenUpload, Reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UPLOAD = "01M86KAY8WBQN4BGJ0DGREQQCB"


def claim(state: str = "claimed") -> dict[str, Any]:
    layout = layout_named("k2", dataset="trades")
    spec = UploadSpec(
        upload_id=UPLOAD,
        dataset="trades",
        layout="k2",
        layout_json=layout.canonical_json,
        source="s",
        bytes=1,
        sha256="x",
        received_at=NOW,
    )
    return Claim(
        upload=spec,
        identity="i",
        idempotency_key=None,
        state=state,
        replica="0",
        next_chunk=0,
        next_byte=0,
        next_line=1,
        header=None,
        chunk_partition=0,
        updated_at=NOW,
    ).to_avro()


def status(index: int, **fields: Any) -> dict[str, Any]:
    known = {
        "upload_id": UPLOAD,
        "dataset": "trades",
        "index": index,
        "terminal": False,
        "cancelled": False,
        "rows_read": 3,
        "rows_accepted": 2,
        "rows_rejected": 1,
        "rows_filtered": 0,
        "errors": [{"column": "price", "code": "NUMBER_INVALID", "count": 1}],
        "outputs": [
            {"topic": TRADES.topic.name, "partition": 0, "base_offset": 10, "count": 2},
            {"topic": REJECTS.topic.name, "partition": 1, "base_offset": 0, "count": 1},
        ],
        "kafka_epoch": 0,
        "on_error": "skip_row",
        "max_reject_ratio": None,
        "replaces": None,
        "failure": None,
        "processed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return {**known, **fields}


END = status(1, terminal=True)


def commit(
    tracker: Tracker, table: str, number: int, offsets: Mapping[int, int], reason: Reason | None = None
) -> None:
    hidden = {} if reason is None else {UPLOAD: HiddenUpload(reason=reason)}
    version = first_version(table)
    for _ in range(number):
        version = version.successor(now=NOW, offsets=offsets, hidden=hidden)
    tracker.on_commit({}, version)


def state(tracker: Tracker) -> str:
    return str(receipt(tracker.uploads[UPLOAD], tracker)["state"])


def test_the_way_of_an_upload() -> None:
    tracker = Tracker()
    tracker.on_claim(claim())
    assert state(tracker) == "queued"
    tracker.on_claim(claim("publishing"))
    assert state(tracker) == "loading"
    tracker.on_status(END)
    assert state(tracker) == "loading"
    tracker.on_status(status(0))
    assert state(tracker) == "committing"
    commit(tracker, TRADES.table, 1, {0: 11})
    assert state(tracker) == "committing"
    commit(tracker, TRADES.table, 2, {0: 12}, Reason.LOADING)
    commit(tracker, REJECTS.table, 1, {1: 1})
    assert state(tracker) == "committing"
    commit(tracker, TRADES.table, 3, {0: 15})
    commit(tracker, TRADES.table, 4, {0: 20})
    found = receipt(tracker.uploads[UPLOAD], tracker)
    assert (found["state"], found["version"]) == ("committed", "ingest.rejects@1,trades@3")
    rows = found["rows"]
    assert (
        rows["read"] == rows["committed"] + rows["rejected"] + rows["filtered"] + rows["dead_lettered"] == 3
    )


def letter(topic: str, partition: int, offset: int) -> DeadLetter:
    place = {"epoch": 0, "partition": partition, "offset": offset}
    return DeadLetter(topic=topic, reason="no record", lettered_at=NOW, **place)


def committed_with_letters(tracker: Tracker, below: int) -> None:
    version = first_version(TRADES.table).successor(now=NOW, offsets={0: 12}, hidden={})
    tracker.on_commit({}, replace(version, dead_letters=below))


def test_a_receipt_waits_for_the_dead_letters_that_its_version_has_passed() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    commit(tracker, REJECTS.table, 1, {1: 1})
    committed_with_letters(tracker, 3)
    assert state(tracker) == "committing"
    # The third was written twice, the first is another upload's.
    for topic, partition, offset in ((TRADES.topic.name, 0, 9), (REJECTS.topic.name, 1, 0)):
        tracker.dead_letters.add(letter(topic, partition, offset))
    for _ in range(2):
        tracker.dead_letters.add(letter(TRADES.topic.name, 0, 11))
    tracker.dead_letters.reached = lambda _: 3
    found = receipt(tracker.uploads[UPLOAD], tracker)
    rows = found["rows"]
    assert (found["state"], rows["committed"], rows["rejected"], rows["dead_lettered"]) == (
        "committed",
        1,
        0,
        2,
    )
    assert rows["read"] == rows["committed"] + rows["rejected"] + rows["filtered"] + rows["dead_lettered"]


def test_letters_that_are_rows_now_are_committed_also_after_the_final_receipt() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    commit(tracker, REJECTS.table, 1, {1: 1})
    tracker.dead_letters.add(letter(TRADES.topic.name, 0, 10))
    tracker.dead_letters.add(letter(TRADES.topic.name, 0, 11))
    tracker.dead_letters.reached = lambda _: 2
    committed_with_letters(tracker, 2)
    upload = tracker.uploads[UPLOAD]
    end = settled(upload.progress, tracker) if upload.progress else None
    assert upload.spec is not None
    assert upload.progress is not None
    assert end is not None
    tracker.on_final(final_record(upload.spec, upload.progress, end, published_at=None, now=NOW))

    def counts() -> tuple[int, int]:
        rows = receipt(upload, tracker)["rows"]
        return rows["committed"], rows["dead_lettered"]

    assert counts() == (0, 2)
    moves = [(10, 20), (11, 21), (21, 22)]
    fields = ("epoch", "partition", "offset", "new_epoch", "new_offset")
    tracker.on_redrive(
        {
            "topic": TRADES.topic.name,
            "upload_id": UPLOAD,
            "moves": [dict(zip(fields, (0, 0, old, 0, new), strict=True)) for old, new in moves],
        }
    )
    assert counts() == (0, 2)
    commit(tracker, TRADES.table, 2, {0: 22})
    assert counts() == (1, 1)
    commit(tracker, TRADES.table, 3, {0: 23})
    assert counts() == (2, 0)
    assert set(tracker.dead_letters.ranges(UPLOAD, TRADES.topic.name)) == {
        (0, 0, new, new + 1) for _, new in moves
    }


def test_an_upload_whose_rows_were_lost_with_a_log_fails_by_name() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    version = first_version(TRADES.table).successor(now=NOW, offsets={}, hidden={})
    lost = replace(version, epoch=1, ended={0: {0: 11}})
    tracker.on_commit({}, lost)
    found = receipt(tracker.uploads[UPLOAD], tracker)
    assert (found["state"], found["failure"]) == ("failed", "LOST_IN_MIGRATION")
    assert found["rows"]["committed"] == 0


def test_a_letter_that_is_no_record_again_stays_one() -> None:
    letters = DeadLetters()
    fields = {"epoch": 0, "partition": 0, "offset": 10, "new_epoch": 0, "new_offset": 20}
    letters.on_redrive({"topic": "t", "upload_id": UPLOAD, "moves": [fields]})
    assert letters.brought_back(UPLOAD, "t", epoch=0, offsets={0: 21}) == 1
    letters.add(letter("t", 0, 20))
    assert letters.brought_back(UPLOAD, "t", epoch=0, offsets={0: 21}) == 0


def test_rejects_that_are_not_in_their_table_yet_keep_the_receipt_open() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    commit(tracker, TRADES.table, 1, {0: 12})
    assert state(tracker) == "committing"
    commit(tracker, REJECTS.table, 1, {1: 1})
    assert state(tracker) == "committed"


def test_a_failed_upload_has_no_committed_rows_and_says_why() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0, on_error="abort"), END):
        tracker.on_status(message)
    commit(tracker, TRADES.table, 1, {0: 12}, Reason.FAILED)
    commit(tracker, REJECTS.table, 1, {1: 1})
    found = receipt(tracker.uploads[UPLOAD], tracker)
    assert (found["state"], found["failure"], found["rows"]["committed"]) == (
        "failed",
        "ABORTED_ON_REJECT",
        0,
    )


def test_an_upload_without_rows_needs_no_version() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    tracker.on_status(status(0, terminal=True))
    found = receipt(tracker.uploads[UPLOAD], tracker)
    assert (found["state"], found["version"]) == ("committed", None)


def test_the_final_receipt_stands_as_it_was_published() -> None:
    tracker = Tracker()
    tracker.on_claim(claim("published"))
    for message in (status(0), END):
        tracker.on_status(message)
    commit(tracker, TRADES.table, 1, {0: 12})
    commit(tracker, REJECTS.table, 1, {1: 1})
    upload = tracker.uploads[UPLOAD]
    assert upload.spec is not None
    assert upload.progress is not None
    end = settled(upload.progress, tracker)
    assert end is not None
    tracker.on_final(final_record(upload.spec, upload.progress, end, published_at=None, now=NOW))
    assert UPLOAD not in tracker.open
    commit(tracker, TRADES.table, 9, {0: 99})
    found = receipt(upload, tracker)
    assert (found["version"], found["finished_at"]) == (
        "ingest.rejects@1,trades@1",
        "2026-01-01T00:00:00.000000000Z",
    )


@given(st.permutations(range(1, 9)), st.integers(0, 90), st.sets(st.integers(1, 8)))
def test_the_first_version_that_shows_is_found_in_whatever_order_they_came(
    numbers: list[int], end: int, hiding: set[int]
) -> None:
    commits = Commits()
    made = {}
    version = first_version(TRADES.table)
    for number in range(1, 9):
        hidden = {UPLOAD: HiddenUpload(reason=Reason.LOADING)} if number in hiding else {}
        version = version.successor(now=NOW, offsets={0: 10 * number}, hidden=hidden)
        made[number] = version
    for number in [*numbers, *numbers[:3]]:
        commits.add(made[number])
    found = commits.first(lambda v: UPLOAD not in v.hidden, covers=lambda v: v.offsets[0] >= end)
    expected = [n for n in range(1, 9) if 10 * n >= end and n not in hiding]
    assert (found.number if found else None) == (expected[0] if expected else None)
