"""Maintenance by the clock and by command: what each pass does, and that none holds up or ends the rest."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from iceberg_sink.app import looked_after
from iceberg_sink.commits.announcer import Announcement
from iceberg_sink.maintenance import maintenance as module
from iceberg_sink.maintenance.maintenance import Maintenance, MaintenanceDependencies
from iceberg_sink.maintenance.routes import MaintenanceRoutes
from iceberg_sink.metrics import MaintenanceMetrics
from iceberg_sink.settings import MaintenanceSettings
from iceberg_sink.tasks import Task
from k2common.errors import TransientError
from k2common.http.app import create_app
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.table_totals import Totals
from k2common.iceberg.maintenance.compaction import Compacted
from k2common.iceberg.maintenance.rewrite import ForeignDeletes, ProofFailed
from k2common.iceberg.reading.reader import VersionReader
from k2common.runtime.blocking import Blocking
from k2common.runtime.readiness import Readiness
from k2common.schemas.datasets import COMMITS, TABLES, TAGS, TRADES, VERSIONS, Dataset, OwnTable
from k2common.settings.service import HttpSettings
from k2common.testing.iceberg import START, append_trades, folder_catalog
from k2common.versions.hidden import HiddenUpload, Reason
from prometheus_client import CollectorRegistry


class Clock:
    def __init__(self) -> None:
        self.at = datetime.now(UTC)
        self.seconds = 0.0
        self.step = 0.0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        self.seconds += self.step
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("maintenance waits for its events, not for the clock")


class Fakes:
    """A maintenance of the table of trades on a real catalogue, with what it announced."""

    def __init__(self, catalog: Catalog, blocking: Blocking) -> None:
        self.catalog = catalog
        self.clock = Clock()
        self.metrics = CollectorRegistry()
        self.announced: list[int] = []
        self.removed: list[int] = []
        self.told: dict[str, Totals] = {}
        self.maintenance = Maintenance(
            MaintenanceDependencies(
                catalog=catalog,
                reader=VersionReader(catalog),
                settings=MaintenanceSettings(orphan_min_age_seconds=60),
                live_snapshots=2,
                attempts=8,
                announce=self._announce,
                blocking=blocking,
                clock=self.clock,
                metrics=MaintenanceMetrics(self.metrics),
                told=self._tell,
                tables={TRADES.table: TRADES, **{t: d for t, d in TABLES.items() if t == "ingest.tags"}},
            )
        )
        self.trades = self.maintenance.tables[TRADES.table]

    async def _announce(self, table: Dataset | OwnTable, announcements: Sequence[Announcement]) -> None:
        self.announced += [announcement.version.number for announcement in announcements]

        self.removed += [one.totals.removed for one in announcements if one.totals is not None]

    def _tell(self, table: str, totals: Totals | None) -> None:
        if totals is not None:
            self.told[table] = totals

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, {"table": TRADES.table, **labels}) or 0.0


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Fakes]:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog)
    blocking = Blocking(workers=1)
    yield Fakes(catalog, blocking)
    blocking.close()


@pytest.fixture
async def http(parts: Fakes) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        MaintenanceRoutes(parts.maintenance).routes(),
        readiness=Readiness(),
        metrics=parts.metrics,
        settings=HttpSettings(port=1),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sink") as client:
        yield client


async def command(http: httpx.AsyncClient, task: str, **parameters: str) -> Any:
    answer = await http.post(f"/v1/maintenance/{task}", params={"table": TRADES.table, **parameters})
    assert answer.status_code == 200, answer.text
    (entry,) = answer.json()["data"]
    assert (entry["table"], entry["task"]) == (TRADES.table, task)
    return entry["figures"]


async def test_commands_do_what_they_say_and_a_trial_changes_nothing(
    parts: Fakes, http: httpx.AsyncClient
) -> None:
    taken = {"U1": HiddenUpload(reason=Reason.RETRACTED)}
    for number in range(8):
        append_trades(parts.catalog, 5, upload=f"U{number}", now=START)
    append_trades(parts.catalog, 0, hidden=taken, now=START)
    before = load_table(parts.catalog, TRADES.table).metadata_location
    trials = {task: await command(http, task, dry_run="true") for task in ("compact", "purge", "collect")}
    assert trials["compact"] == {"groups": 1, "files": 8, "rows": 40}
    assert trials["purge"] == {"uploads": 1, "rows": 0, "versions": 7}
    assert load_table(parts.catalog, TRADES.table).metadata_location == before
    assert parts.trades.last == {}

    assert await command(http, "compact") == trials["compact"]
    assert await command(http, "purge") == {"uploads": 1, "rows": 5, "versions": 7}
    assert parts.announced == [10]
    entry = (await http.get("/v1/tables", params={"table": TRADES.table})).json()["data"][0]
    assert (entry["rows"], entry["data_files"], entry["small_files"], entry["version"]) == (35, 1, 1, 10)
    assert entry["maintained"]["compact"]["figures"]["files"] == 8
    assert parts.counted("k2_files_compacted_total") == 8
    assert parts.counted("k2_rows_purged_total") == 5
    # What the conservation of rows goes by, and what the table is made of from now on.
    assert sum(parts.removed) == 5
    assert parts.told[TRADES.table].rows == 35
    ended = "k2_maintenance_passes_completed_timestamp_seconds"
    assert parts.counted(ended, task="purge") >= START.timestamp()


async def test_files_go_after_the_guard(parts: Fakes) -> None:
    for _ in range(8):
        append_trades(parts.catalog, 5)
    await parts.trades.run(Task.COMPACT)
    await parts.trades.run(Task.EXPIRE)
    assert (await parts.trades.run(Task.COLLECT))["deleted"] == 0
    parts.clock.seconds = 61
    trial = await parts.trades.run(Task.COLLECT, dry_run=True)
    done = await parts.trades.run(Task.COLLECT)
    assert done == trial
    assert parts.counted("k2_files_collected_total") == done["deleted"]


async def test_what_nobody_announced_is_announced_and_kept_until_it_is_recorded(parts: Fakes) -> None:
    for _ in range(4):
        append_trades(parts.catalog, 5, now=START)
    assert await parts.trades.run(Task.EXPIRE, dry_run=True) == {"snapshots": 0, "announced": 0}
    assert await parts.trades.run(Task.EXPIRE) == {"snapshots": 0, "announced": 4}
    assert parts.announced == [1, 2, 3, 4]
    tags = parts.maintenance.tables["ingest.tags"]
    assert await tags.run(Task.EXPIRE) == {"snapshots": 0, "announced": 0}
    assert await tags.run(Task.PURGE) == {"uploads": 0, "rows": 0, "versions": 0}
    assert len(parts.announced) == 4


async def test_each_task_is_due_at_its_interval_and_a_failure_does_not_end_the_rest(
    parts: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [TransientError("unavailable"), ProofFailed("rows"), ForeignDeletes("deletes")]
    tried: list[float] = []
    stop = asyncio.Event()

    def fails(*_: Any, **__: Any) -> Compacted:
        tried.append(parts.clock.seconds)
        if failures:
            raise failures.pop()
        return Compacted()

    async def tick(stop: asyncio.Event, seconds: float) -> bool:
        parts.clock.seconds += 2.5
        if parts.clock.seconds > 25:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(module, "compact", fails)
    monkeypatch.setattr(module, "wait_or_stop", tick)
    await parts.maintenance.look_after([TRADES.table])(stop)
    assert tried == [5, 10, 15, 20, 25]
    assert parts.counted("k2_maintenance_passes_failed_total", task="compact") == 3
    completed = "k2_maintenance_passes_completed_seconds_count"
    assert parts.counted(completed, task="compact") == 2
    assert parts.counted(completed, task="purge") == 0


async def test_a_share_that_ends_does_not_wait_for_a_pass(
    parts: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, begun, let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> dict[str, int]:
        begun.set()
        await let_go.wait()
        return {}

    monkeypatch.setattr(parts.trades, "run", slow)
    monkeypatch.setattr(module, "POLL_INTERVAL_SECONDS", 0.01)
    parts.clock.step = 1e5
    work = asyncio.create_task(parts.maintenance.look_after([TRADES.table])(stop))
    await begun.wait()
    stop.set()
    await work
    assert not let_go.is_set()
    let_go.set()


async def test_parameters_at_fault_are_refused_by_name(parts: Fakes, http: httpx.AsyncClient) -> None:
    for query in ({"tabel": "x"}, {"table": "market.prices"}, {"dry_run": "yes"}):
        answer = await http.post("/v1/maintenance/expire", params=query)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["parameter"] in query
    assert (await http.post("/v1/maintenance/shrink")).status_code == 404
    assert len((await http.get("/v1/tables")).json()["data"]) == 2


async def test_another_engines_deletes_are_a_conflict(
    parts: Fakes, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> Compacted:
        raise ForeignDeletes("market.trades has delete files of another engine")

    monkeypatch.setattr(module, "compact", refuses)
    answer = await http.post("/v1/maintenance/compact", params={"table": TRADES.table})
    assert (answer.status_code, answer.json()["code"]) == (409, "FOREIGN_DELETES")


async def test_a_conflict_in_one_table_is_found_before_another_is_rewritten(
    parts: Fakes, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten: list[str] = []

    def foreign(table: Any) -> list[Any]:
        if ".".join(table.name()) == TAGS.table:
            raise ForeignDeletes(f"{TAGS.table} has delete files of another engine")
        return []

    def rewrite(_: Any, table: str, **__: Any) -> Compacted:
        rewritten.append(table)
        return Compacted()

    monkeypatch.setattr(module, "live_files", foreign)
    monkeypatch.setattr(module, "compact", rewrite)
    answer = await http.post("/v1/maintenance/compact")
    assert (answer.status_code, answer.json()["code"], rewritten) == (409, "FOREIGN_DELETES", [])
    assert (await http.post("/v1/maintenance/compact", params={"table": TRADES.table})).status_code == 200
    assert rewritten == [TRADES.table]


def test_one_owner_of_a_first_partition_looks_after_its_table() -> None:
    assert looked_after({(TRADES.topic.name, 1)}) == []
    assert looked_after({(TRADES.topic.name, 0), (TRADES.topic.name, 1)}) == [TRADES.table]
    assert looked_after({(COMMITS.name, 0)}) == [VERSIONS.table, "ingest.tags", "market.gaps"]
