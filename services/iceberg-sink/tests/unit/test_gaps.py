"""Each finding is an event in market.gaps once, whatever is killed; what was retracted is followed again."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import iceberg_sink.gaps.gaps as gaps
import k2common.iceberg.gaps as store
import pyarrow as pa
import pytest
from iceberg_sink.commits.announcer import Announcement
from iceberg_sink.commits.writer import WriterDependencies
from iceberg_sink.gaps.gaps import GapFinder, GapJob
from iceberg_sink.metrics import SinkMetrics
from iceberg_sink.settings import GapSettings, IcebergSinkSettings, SinkSettings
from k2common.errors import DataDamaged, DataMissing, Fenced
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import commit
from k2common.iceberg.gaps import GapStore
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.orphan_files import referenced
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import head_version
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import GAPS, TRADES
from k2common.settings.iceberg import IcebergSettings
from k2common.testing.iceberg import START, folder_catalog, trade_rows, trades_proposal
from k2common.versions.hidden import HiddenUpload, Reason
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

KEY = SecretStr("a-secret-of-the-tests")

HIDE = HiddenUpload(reason=Reason.LOADING)
RETRACT = HiddenUpload(reason=Reason.RETRACTED)


class Killed(BaseException):
    """The process is gone."""


class Clock:
    def now(self) -> Any:
        return START + timedelta(hours=1)


class Announced:
    """An announcer whose announcements go to a function."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.producer = nullcontext()
        self._told = told

    async def announce(self, announcements: Sequence[Announcement]) -> None:
        if announcements:
            self._told()


class World:
    """Tables in a folder, a sink that writes trades with the numbers that a test wants, and the job."""

    def __init__(self, home: Path) -> None:
        self.settings: IcebergSettings = folder_catalog(home)
        self.catalog: Catalog = open_catalog(self.settings)
        ensure_tables(self.catalog)
        self._opened: list[GapFinder] = []
        self._blocking = Blocking(workers=1)

    def trades(
        self,
        *numbers: int | None,
        upload: str = "U1",
        symbol: str = "ABC",
        hidden: dict[str, HiddenUpload] | None = None,
    ) -> None:
        head = head_version(load_table(self.catalog, TRADES.table))
        expected = None if head is None else head.offsets.get(0)
        rows = trade_rows(expected or 0, len(numbers), upload=upload, symbol=symbol)
        rows = rows.set_column(
            rows.schema.get_field_index("sequence"), "sequence", pa.array(numbers, pa.int64())
        )
        commit(self.catalog, trades_proposal(self.catalog, rows, expected=expected, hidden=hidden))

    def job(self, told: Callable[[], None] = lambda: None, **settings: int) -> tuple[GapJob, GapFinder]:
        """A replica that begins where the table says; `told` is called at its announcements."""
        metrics = SinkMetrics(CollectorRegistry())
        limits = GapSettings(memory_megabytes=128, **settings)
        block = IcebergSinkSettings.model_construct(
            iceberg=self.settings, gaps=limits, sink=SinkSettings(page_key=KEY)
        )
        tools = WriterDependencies(
            settings=block,
            catalog=self.catalog,
            reader=VersionReader(self.catalog),
            statuses=None,  # type: ignore[arg-type]
            commands=None,  # type: ignore[arg-type]
            marks=None,  # type: ignore[arg-type]
            settling=None,  # type: ignore[arg-type]
            blocking=self._blocking,
            clock=Clock(),  # type: ignore[arg-type]
            metrics=metrics,
        )
        keeper = GapStore(self.catalog)
        finder = GapFinder(self.catalog, limits, warehouse=self.settings, metrics=metrics)
        finder.begin(keeper.load())
        self._opened.append(finder)
        job = GapJob(keeper, lambda: finder, tools=tools, announcer=lambda: Announced(told))  # type: ignore[arg-type,return-value]
        return job, finder

    def work(self, **settings: int) -> None:
        """A replica works until there is nothing new."""
        job, finder = self.job(**settings)
        while job.step(finder) is not None:
            pass

    def events(self) -> list[dict[str, Any]]:
        reader = VersionReader(self.catalog)
        version = reader.latest(GAPS.table)
        if version is None:
            return []
        columns = load_table(self.catalog, GAPS.table).schema().column_names
        rows = read_rows(self.catalog, reader.plan(version), columns).to_pylist()
        assert version.offsets == {0: len(rows)}
        rows.sort(key=lambda row: int(row["number"]))
        assert [row["number"] for row in rows] == [row["kafka_offset"] for row in rows]
        return rows

    def told(self) -> list[tuple[Any, ...]]:
        return [(row["kind"], row["first_sequence"], row["count"]) for row in self.events()]

    def close(self) -> None:
        for finder in self._opened:
            finder.close()
        self._blocking.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_an_event_says_what_is_missing_and_where_it_was_found(world: World) -> None:
    world.trades(1, 2, 5)
    world.work()
    (event,) = world.events()
    assert (event["dataset"], event["venue"], event["symbol"], event["source"]) == (
        "trades",
        "XNAS",
        "ABC",
        "test",
    )
    assert (event["kind"], event["first_sequence"], event["count"], event["previous_sequence"]) == (
        "small_gap",
        3,
        2,
        2,
    )
    assert (event["row_epoch"], event["row_partition"], event["row_offset"]) == (0, 0, 2)
    assert (event["upload_id"], event["line"], event["version"]) == ("U1", 4, 1)
    assert event["ts_event_ns"] - event["start_ns"] == 1_000_000
    assert event["ts_event"] == START + timedelta(milliseconds=2)
    assert event["trading_date"] == START.date()


def test_versions_are_followed_one_after_the_other_by_whoever_comes(world: World) -> None:
    world.trades(1, 2, 5)
    world.work()
    world.trades(6, 7, upload="U2")
    world.trades(3, 4, 9, upload="U3")
    world.work()
    assert world.told() == [("small_gap", 3, 2), ("healed", 3, 2), ("small_gap", 8, 1)]
    healed = world.events()[1]
    assert (healed["gap"], healed["version"]) == (0, 3)
    job, finder = world.job()
    assert job.step(finder) is None


async def test_a_table_that_is_written_all_the_time_is_looked_at_as_often_as_any(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, steps = asyncio.Event(), []

    async def waited(_stop: asyncio.Event, seconds: float) -> bool:
        steps.append(seconds)
        if len(steps) >= 6:
            stop.set()
        return stop.is_set()

    def told() -> None:
        steps.append("announced")
        if len(steps) < 6:
            world.trades(1, upload=f"U{len(steps)}")

    monkeypatch.setattr(gaps, "wait_or_stop", waited)
    world.trades(1)
    job, _ = world.job(told)
    await job.run(stop)
    assert steps == ["announced", 5.0] * 3


def test_only_rows_that_are_shown_are_followed(world: World) -> None:
    world.trades(1, 2)
    world.work()
    world.trades(3, 9, upload="U2", hidden={"U2": HIDE})
    world.work()
    assert world.told() == []
    world.trades(hidden={})
    world.work()
    assert world.told() == [("small_gap", 4, 5)]


def test_days_that_lost_rows_are_followed_anew(world: World) -> None:
    world.trades(1, 2, 5, upload="U1")
    world.trades(1, 9, upload="V1", symbol="XYZ")
    world.work()
    world.trades(1, 2, 3, 4, 6, upload="U2", hidden={"U1": HiddenUpload(reason=Reason.REPLACED, by="U2")})
    world.work()
    assert world.told() == [
        ("small_gap", 3, 2),
        ("small_gap", 2, 7),
        ("rescanned", None, None),
        ("small_gap", 5, 1),
    ]
    assert [row["symbol"] for row in world.events()] == ["ABC", "XYZ", "ABC", "ABC"]
    world.trades(hidden={"U1": RETRACT, "U2": RETRACT})
    world.work()
    assert world.told()[4:] == [("rescanned", None, None)]


def test_compaction_of_both_tables_changes_nothing(world: World) -> None:
    world.trades(1, 2, 5)
    world.work()
    world.trades(6, 9, upload="U2")
    world.work()
    before = world.events()
    for table, order in ((TRADES.table, TRADES.order), (GAPS.table, GAPS.order)):
        compact(world.catalog, table, order=order, max_rows=1_000)
    assert world.events() == before
    world.trades(10, 12, upload="U3")
    world.work()
    assert world.told()[2:] == [("small_gap", 11, 1)]
    state = GapStore(world.catalog).load().location
    assert state in referenced(load_table(world.catalog, GAPS.table))


def test_one_of_two_that_make_the_same_step_is_fenced(world: World) -> None:
    world.trades(1, 5)
    first, second = world.job(), world.job()
    assert first[0].step(first[1]) is not None
    with pytest.raises(Fenced):
        second[0].step(second[1])
    world.trades(6, 7, upload="U2")
    # Also one that finds nothing.
    third, fourth = world.job(), world.job()
    assert third[0].step(third[1]) is not None
    with pytest.raises(Fenced):
        fourth[0].step(fourth[1])
    assert world.told() == [("small_gap", 2, 3)]


def killed_before(function: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*_: Any, **__: Any) -> Any:
        raise Killed

    return dying


def killed_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*args: Any, **options: Any) -> Any:
        function(*args, **options)
        raise Killed

    return dying


@pytest.mark.parametrize("kill", [killed_before, killed_after])
@pytest.mark.parametrize(
    "point",
    [
        (gaps.GapFinder, "_follow"),
        (gaps.GapFinder, "step"),
        (store.GapStore, "_write_state"),
        (store, "write"),
        (store, "commit"),
        (gaps.GapFinder, "committed"),
    ],
    ids=lambda point: point[1],
)
def test_each_event_is_there_once_wherever_the_job_is_killed(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    point: tuple[Any, str],
    kill: Callable[..., Any],
) -> None:
    files = [(1, 2, 5), (9, 10, 3), (1, 20)]
    for number, numbers in enumerate(files):
        world.trades(*numbers, upload=f"U{number}")
        with monkeypatch.context() as patched:
            patched.setattr(*point, kill(getattr(*point)))
            job, finder = world.job()
            with pytest.raises(Killed):
                job.step(finder)
        world.work()
    assert world.told() == [
        ("small_gap", 3, 2),
        ("small_gap", 6, 3),
        ("healed", 3, 1),
        ("duplicate", 1, 1),
        ("small_gap", 11, 9),
    ]


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
def test_a_lost_file_stops_the_job_and_makes_no_event(world: World, missing: bool) -> None:
    world.trades(1, 2, 5)
    world.work()
    world.trades(6, 9, upload="U2")
    newest = live_files(load_table(world.catalog, TRADES.table))[-1].file_path
    path = Path(newest.removeprefix("file://"))
    whole = path.read_bytes()
    if missing:
        path.unlink()
    else:
        path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    job, finder = world.job()
    with pytest.raises(DataMissing if missing else DataDamaged):
        job.step(finder)
    assert world.told() == [("small_gap", 3, 2)]
    path.write_bytes(whole)
    world.work()
    assert world.told() == [("small_gap", 3, 2), ("small_gap", 7, 2)]
