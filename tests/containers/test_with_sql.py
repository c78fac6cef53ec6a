"""The same fleet with its catalogue in PostgreSQL, by three settings."""

import json

from tests.containers.composed import Stack


def test_the_golden_values_are_the_same(on_sql: Stack, figures: list[str]) -> None:
    (sink,) = on_sql.containers("iceberg-sink")
    told = json.loads(on_sql.docker("inspect", "--format", "{{json .Config.Env}}", sink))
    assert "K2_ICEBERG__CATALOG_TYPE=sql" in told
    figures.append(f"golden values on PostgreSQL: {on_sql.passes('tests/e2e/test_asx.py')}")


def test_the_database_can_be_killed(on_sql: Stack) -> None:
    fleet = on_sql.fleet()
    for stamp in (1, 2):
        content = f"ts_event_ns,symbol,venue,price,size\n170000000000000000{stamp},PG,XTST,1,1\n".encode()
        receipt = fleet.upload(content, dataset="trades")
        assert receipt["rows"]["committed"] == 1
        if stamp == 1:
            on_sql.kill("postgres")
            on_sql.wait_healthy("postgres")
    assert len(fleet.data("query-service", "/v1/trades", symbols="PG", as_of=receipt["version"])) == 2
