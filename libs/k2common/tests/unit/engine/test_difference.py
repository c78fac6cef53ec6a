"""The rows of a version without those of another are what the rule says row by row, maintenance or not."""

from collections.abc import Iterator

import pytest
from k2common.engine.connection import Engine
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.expiry import Retention, expire
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.schemas.datasets import TRADES
from k2common.settings.engine import EngineSettings
from k2common.testing.iceberg import append_trades, folder_catalog
from k2common.versions.hidden import HiddenUpload, Reason
from k2common.versions.version import Version

LOADING = HiddenUpload(reason=Reason.LOADING)
RETRACTED = HiddenUpload(reason=Reason.RETRACTED)
Row = tuple[str, int, int]
COMMITS: list[tuple[int, str, int, dict[str, HiddenUpload]]] = [
    (5, "U1", 0, {}),
    (3, "U2", 0, {"U2": LOADING}),
    (4, "U2", 1, {"U2": LOADING}),
    (2, "U3", 0, {}),
    (0, "", 0, {"U1": RETRACTED}),
    (6, "U4", 1, {"U1": RETRACTED, "U4": LOADING}),
    (0, "", 0, {"U1": RETRACTED, "U2": RETRACTED}),
    (1, "U5", 0, {"U1": RETRACTED, "U2": RETRACTED}),
]
"""Rows, their upload and partition, and what the version hides."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(EngineSettings(memory_megabytes=256))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = open_catalog(folder_catalog(tmp_path_factory.mktemp("warehouse")))
    ensure_tables(catalog, [TRADES])
    for count, upload, partition, hidden in COMMITS:
        append_trades(catalog, count, upload=upload, partition=partition, days=2, hidden=hidden)
    return catalog


@pytest.fixture(scope="module")
def versions(catalog: Catalog) -> list[Version]:
    reader = VersionReader(catalog)
    return [reader.at(TRADES.table, number) for number in range(1, len(COMMITS) + 1)]


def rows_in_table() -> list[Row]:
    rows: list[Row] = []
    ends = {0: 0, 1: 0}
    for count, upload, partition, _ in COMMITS:
        rows += [(upload, partition, ends[partition] + n) for n in range(count)]
        ends[partition] += count
    return rows


def expected(version: Version, without: Version) -> list[Row]:
    return sorted(
        (upload, partition, offset)
        for upload, partition, offset in rows_in_table()
        if version.shows(upload, epoch=0, partition=partition, offset=offset)
        and not without.shows(upload, epoch=0, partition=partition, offset=offset)
    )


def found(engine: Engine, plan: Plan) -> list[Row]:
    parameters = Parameters()
    rows = rows_sql([Scan(dataset=TRADES, plan=plan)], Filter(), parameters)
    if not (plan.all_visible or plan.straddling):
        return []
    with engine.query(
        f"SELECT upload_id, kafka_partition, kafka_offset FROM ({rows})", parameters.values
    ) as query:
        return sorted(tuple(row.values()) for row in query.table().to_pylist())


def in_memory(catalog: Catalog, plan: Plan) -> list[Row]:
    rows = read_rows(catalog, plan, ("upload_id", "kafka_partition", "kafka_offset"))
    return sorted(tuple(row.values()) for row in rows.to_pylist())


def test_a_difference_in_both_directions_between_any_two_versions(
    catalog: Catalog, engine: Engine, versions: list[Version]
) -> None:
    reader = VersionReader(catalog)
    for version in versions:
        for without in versions:
            plan = reader.plan(version, without=without)
            rows = expected(version, without)
            assert found(engine, plan) == rows
            assert in_memory(catalog, plan) == rows
            if not rows:
                assert (plan.all_visible, plan.straddling) == ((), ())


def test_the_same_after_both_snapshots_expired_and_the_table_was_compacted(
    catalog: Catalog, engine: Engine, versions: list[Version]
) -> None:
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=100_000)
    expire(catalog, TRADES.table, retention=Retention(live=1, recorded=lambda _: True))
    reader = VersionReader(catalog)
    assert [live.version.number for live in reader.snapshots(TRADES.table)] == [len(COMMITS)]
    for version in versions:
        for without in versions:
            assert found(engine, reader.plan(version, without=without)) == expected(version, without)
