"""The engine gives exactly the rows that a version shows, in the total order, each as it is."""

import json
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from k2common.domain.ordering import TOTAL_ORDER
from k2common.engine.connection import Engine, QueryInterrupted
from k2common.engine.scan import ORDER_BY, Filter, Parameters, Scan, after, order_key, rows_sql
from k2common.engine.text import columns_of, json_expression, text_expressions
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.reading.reader import VersionReader
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.settings.engine import EngineSettings
from k2common.testing.iceberg import START_US, append_trades, folder_catalog
from k2common.versions.hidden import HiddenUpload, Reason

ALL = Filter()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog, [TRADES, QUOTES])
    return catalog


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(EngineSettings(memory_megabytes=256))


def scan_of(catalog: Catalog, number: int) -> Scan:
    reader = VersionReader(catalog)
    return Scan(dataset=TRADES, plan=reader.plan(reader.at(TRADES.table, number)))


def found(engine: Engine, scan: Scan, wanted: Filter = ALL) -> list[dict[str, Any]]:
    parameters = Parameters()
    rows = rows_sql([scan], wanted, parameters)
    with engine.query(f"SELECT * FROM ({rows}) ORDER BY {ORDER_BY}", parameters.values) as query:
        return list(query.table().to_pylist())


def test_each_version_gives_its_own_rows(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 5, upload="U1")
    append_trades(catalog, 3, upload="U2", hidden={"U2": HiddenUpload(reason=Reason.LOADING)})
    append_trades(catalog, 2, upload="U3", partition=1, days=2, hidden={})
    uploads = [[row["upload_id"] for row in found(engine, scan_of(catalog, number))] for number in (1, 2, 3)]
    assert uploads[0] == ["U1"] * 5
    assert uploads[1] == ["U1"] * 5
    assert sorted(uploads[2]) == ["U1"] * 5 + ["U2"] * 3 + ["U3"] * 2


def test_a_file_that_only_begins_in_the_version_is_read_up_to_its_offset(
    catalog: Catalog, engine: Engine
) -> None:
    append_trades(catalog, 5, upload="U1")
    append_trades(catalog, 5, upload="U2", partition=1)
    whole = scan_of(catalog, 2)
    for offsets in ({0: 3}, {0: 0, 1: 5}, {0: 5, 1: 1}, {}):
        plan = replace(
            whole.plan,
            version=replace(whole.plan.version, offsets=offsets),
            all_visible=(),
            straddling=whole.plan.all_visible,
        )
        rows = found(engine, replace(whole, plan=plan))
        expected = [(p, n) for p in (0, 1) for n in range(offsets.get(p, 0))]
        assert sorted((row["kafka_partition"], row["kafka_offset"]) for row in rows) == expected


def test_the_rows_come_in_the_total_order_and_pages_meet(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 40, upload="U1", days=3)
    append_trades(catalog, 40, upload="U2", partition=1)
    scan = scan_of(catalog, 2)
    rows = found(engine, scan)
    keys = [tuple(row[name] for name in TOTAL_ORDER) for row in rows]
    assert keys == sorted(keys)
    for at in (0, 17, 78):
        parameters = Parameters()
        sql = rows_sql([scan], Filter(), parameters)
        where = after(order_key(rows[at]), parameters)
        rest = f"SELECT line FROM ({sql}) WHERE {where} ORDER BY {ORDER_BY}"
        with engine.query(rest, parameters.values) as query:
            assert query.table()["line"].to_pylist() == [row["line"] for row in rows[at + 1 :]]


def test_filters_are_conditions_on_values(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 10)
    scan = scan_of(catalog, 1)
    start = START_US * 1000 + 3_000_000
    assert len(found(engine, scan, Filter(start_ns=start, end_ns=start + 2_000_000))) == 2
    assert len(found(engine, scan, Filter(symbols=["ABC", "X"], venues=["XNAS"], source="test"))) == 10
    assert not found(engine, scan, Filter(symbols=["' OR 1=1 --"]))
    assert len(found(engine, scan, Filter(trading_date="2026-03-02"))) == 10
    assert not found(engine, scan, Filter(include_conditions=["X"]))
    assert len(found(engine, scan, Filter(exclude_conditions=["X"]))) == 10


def test_json_is_exact(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 1)
    parameters = Parameters()
    rows = rows_sql([scan_of(catalog, 1)], Filter(), parameters)
    sql = f"SELECT {json_expression(TRADES, typed=True)} AS line FROM ({rows})"
    with engine.query(sql, parameters.values) as query:
        row = json.loads(query.table()["line"][0].as_py())
    assert list(row) == ["type", *columns_of(TRADES)]
    assert (row["price"], row["size"]) == ("1.5", "100")
    assert row["ts_event"] == "2026-03-02T09:30:00.000000000Z"
    assert row["ts_event_ns"] == str(START_US * 1000)
    assert (row["attributes"], row["conditions"], row["trade_id"]) == ({}, [], None)


def test_text_is_exact(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 1)
    parameters = Parameters()
    rows = rows_sql([scan_of(catalog, 1)], Filter(), parameters)
    with engine.query(f"SELECT {text_expressions(TRADES)} FROM ({rows})", parameters.values) as query:
        (row,) = query.table().to_pylist()
    assert Decimal(row["price"]) == Decimal("1.5")
    assert (row["attributes"], row["ts_recv_ns"]) == ("{}", None)


def test_a_version_without_files_has_columns(catalog: Catalog, engine: Engine) -> None:
    append_trades(catalog, 1)
    plan = scan_of(catalog, 1).plan
    empty = Scan(dataset=QUOTES, plan=replace(plan, all_visible=(), straddling=()))
    parameters = Parameters()
    with engine.query(rows_sql([empty], Filter(), parameters), parameters.values) as query:
        assert query.table().column_names == ["dataset", *columns_of(QUOTES)]


def test_a_query_can_be_given_up(engine: Engine) -> None:
    with engine.query("SELECT count(*) FROM range(10000000000) a", {}) as query:
        batches = query.batches(10)
        threading.Timer(0.2, query.interrupt).start()
        with pytest.raises(QueryInterrupted):
            list(batches)
