"""A new replica that begins at `resume` hears again all of every upload that is not settled."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import iceberg_sink.uploads.statuses as module
import pytest
from hypothesis import given
from hypothesis import strategies as st
from iceberg_sink.uploads.statuses import Statuses, earliest_resume
from k2common.columnar.record_batch import FetchedBatch
from k2common.schemas.datasets import STATUS, TRADES
from k2common.settings.kafka import KafkaSettings
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import HiddenUpload, Reason
from k2common.versions.version import Version

TOPIC = TRADES.topic.name
PARTITIONS = STATUS.partitions
DATASETS = ("trades", "quotes")


def status(upload: str, index: int = 0, **fields: Any) -> dict[str, Any]:
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


def end(upload: str, chunks: int, **fields: Any) -> dict[str, Any]:
    return status(upload, chunks, terminal=True, rows_read=0, rows_accepted=0, **fields)


def row(upload: str, index: int, **fields: Any) -> dict[str, Any]:
    """The status of a chunk that put one row into partition 0, at the offset that is its index."""
    output = {"topic": TOPIC, "partition": 0, "base_offset": index, "count": 1}
    return status(upload, index, outputs=[output], **fields)


def following(starts: Mapping[int, int] | None = None) -> Statuses:
    codec: Any = None
    return Statuses(KafkaSettings(bootstrap_servers="nowhere:1"), codec=codec, starts=starts)


def version(offset: int, hidden: Mapping[str, Reason] | None = None) -> Version:
    entries = {upload: HiddenUpload(reason=reason) for upload, reason in (hidden or {}).items()}
    known = first_version(TRADES.table)
    return known.successor(now=known.committed_at, offsets={0: offset}, hidden=entries)


def resuming(resume: Mapping[int, int]) -> Version:
    return replace(first_version(TRADES.table), resume={STATUS.name: resume})


@dataclass(frozen=True)
class Entry:
    partition: int
    offset: int
    message: dict[str, Any]


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Uploads of both datasets, each in one partition of the log with its terminal status last."""
    waiting: list[tuple[int, list[dict[str, Any]]]] = []
    for number in range(draw(st.integers(1, 5))):
        upload, dataset = f"U{number}", draw(st.sampled_from(DATASETS))
        chunks = draw(st.integers(0, 3))
        messages = [status(upload, index, dataset=dataset) for index in range(chunks)]
        waiting.append(
            (draw(st.integers(0, PARTITIONS - 1)), [*messages, end(upload, chunks, dataset=dataset)])
        )
    log: list[Entry] = []
    ends = [0] * PARTITIONS
    while any(messages for _, messages in waiting):
        partition, messages = draw(st.sampled_from([w for w in waiting if w[1]]))
        log.append(Entry(partition, ends[partition], messages.pop(0)))
        ends[partition] += 1
    return log[: draw(st.integers(1, len(log)))]


def hear(statuses: Statuses, log: list[Entry], *, since: Mapping[int, int]) -> None:
    for entry in log:
        if entry.offset >= since.get(entry.partition, 0):
            statuses.add(entry.message, place=(entry.partition, entry.offset))


def ends_of(log: list[Entry]) -> dict[int, int]:
    return {p: sum(entry.partition == p for entry in log) for p in range(PARTITIONS)}


@given(logs(), st.data())
def test_resume_never_passes_the_first_status_of_an_open_upload(
    log: list[Entry], data: st.DataObject
) -> None:
    ends = ends_of(log)
    statuses = following(ends)
    firsts: dict[str, Entry] = {}
    for entry in log:
        upload = entry.message["upload_id"]
        firsts.setdefault(upload, entry)
        statuses.add(entry.message, place=(entry.partition, entry.offset))
        if data.draw(st.booleans()):
            statuses.settle("trades", version(0), topic=TOPIC)
    for dataset in DATASETS:
        resume = statuses.resume(dataset)
        expected = dict(ends)
        for upload in statuses.open(dataset):
            first = firsts[upload]
            expected[first.partition] = min(expected[first.partition], first.offset)
        assert resume == expected


@given(logs())
def test_a_new_replica_learns_of_open_uploads_what_the_old_one_knew(log: list[Entry]) -> None:
    old = following(ends_of(log))
    hear(old, log, since={})
    for dataset in DATASETS:
        old.settle(dataset, version(0), topic=TOPIC)
    starts = earliest_resume([resuming(old.resume(dataset)) for dataset in DATASETS], STATUS)
    assert starts is not None
    new = following(starts)
    hear(new, log, since=starts)
    for dataset in DATASETS:
        for upload, progress in old.open(dataset).items():
            assert new.open(dataset)[upload] == progress


def test_an_upload_stays_open_until_its_every_status_is_known() -> None:
    statuses = following()
    statuses.add(row("U1", 0), place=(0, 0))
    statuses.add(end("U1", 2), place=(0, 1))
    statuses.settle("trades", version(9), topic=TOPIC)
    assert set(statuses.open("trades")) == {"U1"}
    assert statuses.complete("trades") == {}
    statuses.add(row("U1", 1), place=(0, 2))
    assert set(statuses.complete("trades")) == {"U1"}
    statuses.settle("trades", version(9), topic=TOPIC)
    assert statuses.open("trades") == {}


@pytest.mark.parametrize(
    ("told", "settled"),
    [
        (version(1), False),
        (version(2, {"U1": Reason.LOADING}), False),
        (version(2), True),
        (version(2, {"U2": Reason.LOADING}), True),
        (version(2, {"U1": Reason.FAILED}), True),
        (version(2, {"U1": Reason.CANCELLED}), True),
        (version(2, {"U1": Reason.RETRACTED}), True),
    ],
)
def test_an_upload_is_forgotten_once_a_version_has_its_rows_and_its_fate(
    told: Version, settled: bool
) -> None:
    statuses = following({0: 3})
    for offset, message in enumerate((row("U1", 0), row("U1", 1), end("U1", 2))):
        statuses.add(message, place=(0, offset))
    statuses.settle("trades", told, topic=TOPIC)
    assert statuses.open("trades").keys() == (set() if settled else {"U1"})
    assert statuses.resume("trades") == {0: 3 if settled else 0}


def test_an_upload_without_rows_in_the_topic_is_forgotten_at_any_version() -> None:
    statuses = following()
    statuses.add(end("U1", 0), place=(0, 0))
    statuses.settle("trades", version(0, {"U9": Reason.LOADING}), topic=TOPIC)
    assert statuses.open("trades") == {}


def test_a_version_settles_nothing_of_another_dataset() -> None:
    statuses = following({0: 9})
    statuses.add(end("U1", 0, dataset="quotes"), place=(0, 4))
    statuses.settle("trades", version(9), topic=TOPIC)
    assert set(statuses.open("quotes")) == {"U1"}
    assert (statuses.resume("quotes"), statuses.resume("trades")) == ({0: 4}, {0: 9})


def test_a_status_that_comes_again_moves_neither_sums_nor_resume() -> None:
    statuses = following({0: 9})
    for offset in (3, 5):
        statuses.add(row("U1", 0), place=(0, offset))
    assert statuses.open("trades")["U1"].rows_read == 1
    assert statuses.resume("trades") == {0: 3}


def test_resume_says_nothing_of_a_partition_whose_beginning_is_not_known() -> None:
    statuses = following()
    assert statuses.resume("trades") == {}
    statuses.add(row("U1", 0), place=(1, 6))
    assert statuses.resume("trades") == {1: 6}


RESUMES = st.fixed_dictionaries({partition: st.integers(0, 99) for partition in range(PARTITIONS)})


@given(st.lists(RESUMES, min_size=1, max_size=4))
def test_statuses_begin_no_later_than_any_table_needs(resumes: list[dict[int, int]]) -> None:
    found = earliest_resume([resuming(resume) for resume in resumes], STATUS)
    assert found == {
        partition: min(resume[partition] for resume in resumes) for partition in range(PARTITIONS)
    }


@given(st.lists(RESUMES, max_size=3), st.data())
def test_one_table_without_a_resume_is_the_beginning_of_the_log(
    resumes: list[dict[int, int]], data: st.DataObject
) -> None:
    versions: list[Version | None] = [resuming(resume) for resume in resumes]
    unknown = data.draw(st.sampled_from([None, first_version(TRADES.table)]))
    versions.insert(data.draw(st.integers(0, len(versions))), unknown)
    assert earliest_resume(versions, STATUS) is None


@st.composite
def placed_logs(draw: st.DrawFn) -> tuple[list[Entry], int]:
    """Logs whose chunks of trades each put a record batch into partition 0, and the end of that partition."""
    at, placed = 0, []
    for entry in draw(logs()):
        message = entry.message
        if message["dataset"] == "trades" and not message["terminal"]:
            count = draw(st.integers(1, 3))
            output = {"topic": TOPIC, "partition": 0, "base_offset": at, "count": count}
            message, at = {**message, "outputs": [output]}, at + count
        placed.append(replace(entry, message=message))
    return placed, at


def named_by(statuses: Statuses, output: Mapping[str, Any]) -> bool:
    """Whether the record batch is known by its upload."""
    first, count = output["base_offset"], output["count"]
    batch = FetchedBatch(
        partition=0, base_offset=first, count=count, wanted_from=first, payload=memoryview(b"")
    )
    return statuses.named.range_of(TOPIC, batch, epochs=(0,)) is not None


def outputs_from(log: list[Entry], offset: int) -> list[Mapping[str, Any]]:
    outputs = [output for entry in log for output in entry.message["outputs"]]
    return [output for output in outputs if output["base_offset"] >= offset]


@given(placed_logs(), st.data())
def test_a_new_replica_knows_each_name_that_its_table_needs(
    placed: tuple[list[Entry], int], data: st.DataObject
) -> None:
    """Else it would take the rows of an upload for strays."""
    log, end_offset = placed
    bounds = sorted({0, end_offset, *(output["base_offset"] for output in outputs_from(log, 0))})
    table = data.draw(st.sampled_from(bounds))
    old = following(ends_of(log))
    hear(old, log, since={})
    old.settle("trades", version(table), topic=TOPIC)
    starts = old.resume("trades")
    new = following(starts)
    hear(new, log, since=starts)
    for statuses in (old, new):
        assert all(named_by(statuses, output) for output in outputs_from(log, table))


class Reading:
    """A reader of a log that is at its end after one fetch."""

    def __init__(self, log: list[Entry], starts: Mapping[tuple[str, int], int | None]) -> None:
        self._starts = {place: at or 0 for place, at in starts.items()}
        self._log = log
        self._done = False

    async def __aenter__(self) -> "Reading":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def ends(self) -> Mapping[tuple[str, int], int]:
        ends = ends_of(self._log)
        return {place: ends[place[1]] for place in self._starts}

    async def positions(self) -> Mapping[tuple[str, int], int]:
        return await self.ends() if self._done else self._starts

    async def fetch(self, **_: Any) -> Mapping[tuple[str, int], Any]:
        self._done = True
        return {
            place: [
                SimpleNamespace(topic=place[0], partition=place[1], offset=e.offset, value=e.message)
                for e in self._log
                if e.partition == place[1] and e.offset >= start
            ]
            for place, start in self._starts.items()
        }


class Plain:
    """Messages are decoded already."""

    async def decode(self, value: Any) -> Any:
        return value


@given(placed_logs(), st.data())
def test_after_a_rollback_the_forgotten_names_are_read_again(
    placed: tuple[list[Entry], int], data: st.DataObject
) -> None:
    log, end_offset = placed
    back = data.draw(st.sampled_from(sorted({0, *(o["base_offset"] for o in outputs_from(log, 0))})))
    codec: Any = Plain()
    statuses = Statuses(KafkaSettings(bootstrap_servers="nowhere:1"), codec=codec, starts=None)
    hear(statuses, log, since={})
    resumed = statuses.resume("trades")
    open_then = set(statuses.open("trades"))
    statuses.settle("trades", version(end_offset), topic=TOPIC)
    head = replace(version(back), resume={STATUS.name: resumed})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MessageReader", lambda _, starts, **__: Reading(log, starts))
        asyncio.run(statuses.reread("trades", head, topic=TOPIC))
    assert all(named_by(statuses, output) for output in outputs_from(log, back))
    assert not statuses.named.forgets(TOPIC, head.offsets)
    # Uploads that a later version had settled are known again, so none is shown or hidden by a guess.
    with_rows = {e.message["upload_id"] for e in log if e.message["outputs"]}
    if back < end_offset and outputs_from(log, back):
        assert open_then & with_rows <= set(statuses.open("trades"))
