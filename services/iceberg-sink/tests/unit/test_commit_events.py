"""A commit tells of each upload that it settles, once, and carries the traces of those that it shows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from iceberg_sink.commits.commit_events import UPLOADS_CARRIED, AppliedChange, tell_ended
from iceberg_sink.commits.version_change import SinkChange
from iceberg_sink.uploads.statuses import Statuses
from iceberg_sink.uploads.visibility import Commanded
from k2common.domain.progress import Progress
from k2common.observability.tracing import TRACEPARENT, UPLOAD_TRACE, Carried
from k2common.schemas.datasets import TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import OffsetRange
from k2common.versions.version import Version
from structlog.testing import capture_logs

TOPIC = TRADES.topic.name
SPAN = (OffsetRange(epoch=0, partition=0, first=0, end=5),)


def traceparent(number: int) -> bytes:
    return f"00-{number + 1:032x}-{number + 1:016x}-01".encode()


def trace(number: int) -> Carried:
    return ((TRACEPARENT, traceparent(number)),)


def upload(name: str, *, end: int = 5, failure: str | None = None) -> Progress:
    ends = {(TOPIC, 0): (0, end)}
    return Progress(upload_id=name, dataset="trades", chunks=0, ends=ends, failure=failure)


def change(*progress: Progress, arrived: bool = True, commanded: Commanded | None = None) -> AppliedChange:
    return AppliedChange(
        SinkChange(
            dataset=TRADES,
            epoch=0,
            now=datetime(2026, 1, 1, tzinfo=UTC),
            offsets={0: 5},
            arrived={entry.upload_id: SPAN for entry in progress} if arrived else {},
            progress={entry.upload_id: entry for entry in progress},
            commanded=commanded or Commanded(),
        )
    )


@pytest.fixture
def told() -> Iterator[list[Mapping[str, object]]]:
    with capture_logs() as lines:
        yield lines


def head(offset: int) -> Version:
    return replace(first_version(TRADES.table), offsets={0: offset})


def test_what_the_commit_settles_is_told_with_its_outcome(told: list[Mapping[str, object]]) -> None:
    made = change(upload("SHOWN"), upload("BROKEN", failure="CHUNK_UNPARSEABLE"), upload("LATER", end=9))
    version = made(None)
    traces = {"SHOWN": trace(1), "BROKEN": trace(2), "LATER": trace(3)}
    carried = tell_ended(made, version, trace_of=traces.__getitem__)
    assert [(line["event"], line["upload_id"], line["outcome"]) for line in told] == [
        ("upload settled", "SHOWN", "visible"),
        ("upload settled", "BROKEN", "failed"),
    ]
    assert {line["version"] for line in told} == {version.number}
    # Nobody reads what is hidden.
    assert carried == ((UPLOAD_TRACE, traceparent(1)),)


def test_what_another_owners_commit_has_settled_is_not_told_again(told: list[Mapping[str, object]]) -> None:
    made = change(upload("SHOWN"), arrived=False)
    version = made(head(5))
    assert tell_ended(made, version, trace_of=lambda _: trace(1)) == ()
    assert told == []


def test_the_head_that_counts_is_the_last_that_the_change_was_applied_to() -> None:
    made = change(upload("SHOWN"))
    made(head(0))
    assert made.ended(made(head(5))) == {}
    assert made.ended(made(head(0))) == {"SHOWN": "visible"}


def test_without_traces_nothing_is_carried(told: list[Mapping[str, object]]) -> None:
    made = change(upload("SHOWN"))
    assert tell_ended(made, made(None), trace_of=lambda _: ()) == ()
    assert len(told) == 1


def test_an_announcement_carries_so_many_traces_and_no_more() -> None:
    made = change(*(upload(f"U{n}") for n in range(UPLOADS_CARRIED + 5)))
    carried = tell_ended(made, made(None), trace_of=lambda name: trace(int(name[1:])))
    assert len(carried) == UPLOADS_CARRIED


def test_spans_of_an_upload_begin_with_the_commits_proposal() -> None:
    assert change().began_ns == 1_767_225_600_000_000_000


def test_a_status_brings_its_trace_until_its_upload_is_settled() -> None:
    statuses = Statuses(KafkaSettings(bootstrap_servers="nowhere:1"), codec=None, starts=None)  # type: ignore[arg-type]
    status = {
        "upload_id": "U",
        "dataset": "trades",
        "index": 0,
        "terminal": False,
        "cancelled": False,
        **dict.fromkeys(("rows_read", "rows_accepted", "rows_rejected", "rows_filtered"), 1),
        "errors": [],
        "outputs": [{"topic": TOPIC, "partition": 0, "base_offset": 0, "count": 5}],
        "kafka_epoch": 0,
        **dict.fromkeys(("max_reject_ratio", "replaces", "failure")),
        "on_error": "skip_row",
        "processed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    statuses.add(status, place=(0, 0), trace=trace(1))
    statuses.add({**status, "index": 1, "terminal": True, "outputs": []}, place=(0, 1), trace=trace(2))
    assert statuses.trace("U") == trace(2)
    assert statuses.settle("trades", head(5), topic=TOPIC) == {"U"}
    assert statuses.trace("U") == ()
