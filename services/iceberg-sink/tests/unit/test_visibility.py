"""An upload's rows are hidden until all of them are in the table; then it is shown, or hidden for good."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from iceberg_sink.uploads.statuses import Statuses, earliest_resume
from iceberg_sink.uploads.visibility import (
    Commanded,
    TopicProgress,
    arrivals,
    hidden_after,
    is_due,
    is_settled,
    merged,
)
from k2common.domain.progress import Progress
from k2common.schemas.datasets import STATUS, TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import first_version, trade_rows
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version

TOPIC = TRADES.topic.name
PARTITIONS = 2


def at(offsets: dict[int, int]) -> TopicProgress:
    return TopicProgress(topic=TOPIC, epoch=0, offsets=offsets)


def status(upload: str, index: int, **fields: Any) -> dict[str, Any]:
    known = {
        "upload_id": upload,
        "dataset": "trades",
        "index": index,
        "terminal": False,
        "cancelled": False,
        "rows_read": 1,
        "rows_accepted": 1,
        "rows_rejected": 0,
        "rows_filtered": 0,
        "errors": [],
        "outputs": [],
        "kafka_epoch": 0,
        "on_error": "skip_row",
        "max_reject_ratio": None,
        "replaces": None,
        "failure": None,
        "processed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return {**known, **fields}


@dataclass(frozen=True)
class Row:
    upload: str
    partition: int
    offset: int


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[dict[str, Any]], list[str]]:
    """Rows of a few uploads, their statuses, and an order in which rows and statuses become known."""
    rows: list[Row] = []
    statuses: list[dict[str, Any]] = []
    ends = [0] * PARTITIONS
    for upload in draw(st.permutations(["U1", "U2", "U3"])):
        failed = draw(st.sampled_from([None, None, "failed", "cancelled"]))
        chunks = draw(st.integers(0, 3))
        for index in range(chunks):
            outputs = []
            for partition in range(PARTITIONS):
                if count := draw(st.integers(0, 2)):
                    place = {"topic": TOPIC, "partition": partition, "base_offset": ends[partition]}
                    outputs.append({**place, "count": count})
                    rows += [Row(upload, partition, ends[partition] + n) for n in range(count)]
                    ends[partition] += count
            failure = "CHUNK_UNPARSEABLE" if failed == "failed" and index == 0 else None
            statuses.append(status(upload, index, outputs=outputs, failure=failure))
        statuses.append(status(upload, chunks, terminal=True, cancelled=failed == "cancelled"))
    steps = draw(st.permutations(["status"] * len(statuses) + ["commit"] * (len(rows) + 2)))
    return rows, statuses, list(steps)


def model(rows: list[Row], known: list[dict[str, Any]], offsets: dict[int, int]) -> dict[str, Reason]:
    """The rule, said over single rows: what is hidden in a table with these offsets, and why."""
    hidden: dict[str, Reason] = {}
    inside = [row for row in rows if row.offset < offsets[row.partition]]
    for upload in {row.upload for row in inside}:
        mine = [entry for entry in known if entry["upload_id"] == upload]
        terminal = [entry for entry in mine if entry["terminal"]]
        complete = bool(terminal) and len(mine) == terminal[0]["index"] + 1
        whole = all(row in inside for row in rows if row.upload == upload)
        if not (complete and whole):
            hidden[upload] = Reason.LOADING
        elif any(entry["failure"] for entry in mine):
            hidden[upload] = Reason.FAILED
        elif terminal[0]["cancelled"]:
            hidden[upload] = Reason.CANCELLED
    return hidden


def new_statuses() -> Statuses:
    codec: Any = None
    return Statuses(KafkaSettings(bootstrap_servers="nowhere:1"), codec=codec, starts=None)


@given(histories(), st.data())
def test_each_version_hides_what_the_rule_over_rows_hides(
    history: tuple[list[Row], list[dict[str, Any]], list[str]], data: st.DataObject
) -> None:
    rows, messages, steps = history
    statuses, version = new_statuses(), first_version(TRADES.table)
    waiting = list(enumerate(messages))
    known: list[dict[str, Any]] = []
    for step in steps:
        if step == "status":
            offset, message = waiting.pop(0)
            known.append(message)
            statuses.add(message, place=(0, offset))
            continue
        version = committed(version, rows, statuses, data)
        offsets = {p: version.offsets.get(p, 0) for p in range(PARTITIONS)}
        assert {u: entry.reason for u, entry in version.hidden.items()} == model(rows, known, offsets)
        assert not is_due(version, statuses.complete("trades"), Commanded(), topic=TOPIC)
        for upload, entry in version.hidden.items():
            held = {
                (r.partition, r.offset)
                for r in rows
                if r.upload == upload and r.offset < offsets[r.partition]
            }
            assert all(any(_holds(span, place) for span in entry.ranges) for place in held)
        # A new replica starts early enough to hear again of each upload that is still open.
        resume = statuses.resume("trades").get(0, len(known))
        still_open = {entry["upload_id"] for entry in known[resume:]}
        assert set(statuses.open("trades")) <= still_open
        assert all(m["upload_id"] not in statuses.open("trades") for m in known[:resume])


def committed(version: Version, rows: list[Row], statuses: Statuses, data: st.DataObject) -> Version:
    start = {p: version.offsets.get(p, 0) for p in range(PARTITIONS)}
    end = {p: data.draw(st.integers(start[p], max(start[p], _end(rows, p)))) for p in range(PARTITIONS)}
    arrived: dict[str, tuple[OffsetRange, ...]] = {}
    for row in rows:
        if start[row.partition] <= row.offset < end[row.partition]:
            span = OffsetRange(epoch=0, partition=row.partition, first=row.offset, end=row.offset + 1)
            arrived[row.upload] = merged((*arrived.get(row.upload, ()), span))
    hidden = hidden_after(version.hidden, arrived, statuses.complete("trades"), Commanded(), place=at(end))
    after = version.successor(now=version.committed_at, offsets=end, hidden=hidden)
    statuses.settle("trades", after, topic=TOPIC)
    return after


def _end(rows: list[Row], partition: int) -> int:
    return max((row.offset + 1 for row in rows if row.partition == partition), default=0)


def _holds(span: OffsetRange, place: tuple[int, int]) -> bool:
    return span.partition == place[0] and span.first <= place[1] < span.end


def test_only_loading_is_ever_taken_back() -> None:
    reasons = [Reason.FAILED, Reason.CANCELLED, Reason.REPLACED, Reason.RETRACTED]
    hidden = {str(reason): HiddenUpload(reason=reason) for reason in reasons}
    done = {upload: Progress(upload_id=upload, dataset="trades", chunks=0) for upload in hidden}
    assert hidden_after(hidden, {}, done, Commanded(), place=at({})) == hidden


def test_offsets_of_an_older_epoch_cover_nothing_of_a_newer_one() -> None:
    progress = Progress(upload_id="U1", dataset="trades", chunks=0, ends={(TOPIC, 0): (1, 5)})
    version = first_version(TRADES.table)
    assert not is_settled(progress, version, topic=TOPIC)
    assert hidden_after({}, {"U1": ()}, {"U1": progress}, Commanded(), place=at({0: 99})) == {
        "U1": HiddenUpload(reason=Reason.LOADING)
    }


def test_arrivals_are_the_places_of_each_uploads_rows() -> None:
    found = arrivals(trade_rows(7, 3, partition=1, upload="U9"))
    assert found == {"U9": (OffsetRange(epoch=0, partition=1, first=7, end=10),)}


def test_a_new_replica_begins_before_the_first_status_of_what_is_open() -> None:
    codec: Any = None
    statuses = Statuses(KafkaSettings(bootstrap_servers="nowhere:1"), codec=codec, starts={0: 100, 1: 50})
    for offset, upload in ((7, "U1"), (3, "U2"), (9, "U1")):
        statuses.add(status(upload, offset), place=(0, offset))
    assert statuses.resume("trades") == {0: 3, 1: 50}
    assert statuses.resume("quotes") == {0: 100, 1: 50}


def test_statuses_begin_where_the_table_that_is_furthest_behind_begins() -> None:
    first, second = (
        replace(first_version(TRADES.table), resume={"ingest.status.v1": resume})
        for resume in ({0: 5, 1: 9}, {0: 7, 1: 2})
    )
    assert earliest_resume([first, second], STATUS) == {0: 5, 1: 2}
    assert earliest_resume([first, None], STATUS) is None
