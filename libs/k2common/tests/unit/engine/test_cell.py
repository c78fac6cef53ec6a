"""A stranger's statement reads the views that it was given, and finds every other door locked."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2common.engine import cell
from k2common.engine.cell import Cell, serve
from k2common.engine.functions import FUNCTIONS, TABLE_FUNCTIONS
from k2common.engine.statements import StatementRefused
from k2common.testing.escapes import FORBIDDEN, MALFORMED

VIEWS = ["quotes", "trades"]
EVERY = [sql for group in FORBIDDEN.values() for sql in group]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    home = tmp_path_factory.mktemp("cell")
    rows = pa.table({"symbol": ["A", "B"], "price": [1, 2]})
    pq.write_table(rows, home / "planned.parquet")
    (home / "secret.csv").write_text("secret\n1\n")
    return {"file": str(home / "secret.csv"), "planned": str(home / "planned.parquet")}


def filled(sql: str, files: Mapping[str, str]) -> str:
    return sql.replace("{file}", files["file"]).replace("{planned}", files["planned"])


def frames(sql: str, files: Mapping[str, str], **task: Any) -> list[tuple[bytes, bytes]]:
    """What a process would say, in this one."""
    question = {"sql": sql, "views": VIEWS, "memory_megabytes": 256, "threads": 1}
    wanted = {
        "datasets": [],
        "statements": [
            "CREATE VIEW trades AS SELECT symbol, price FROM read_parquet(getvariable('k2_0'))",
            "CREATE VIEW quotes AS SELECT * FROM trades",
        ],
        "variables": {"k2_0": [files["planned"]]},
        "paths": [files["planned"]],
        "parameters": {},
        "format": "json",
        "limit": None,
        "sorted": False,
        **task,
    }
    lines = [json.dumps(question).encode(), json.dumps(wanted).encode()]
    said: list[tuple[bytes, bytes]] = []
    serve(lambda: lines.pop(0), lambda kind, data: said.append((kind, data)), confine=lambda _: None)
    return said


def answer(sql: str, files: Mapping[str, str], **task: Any) -> bytes:
    said = frames(sql, files, **task)
    assert said[-1][0] == b"D", said[-1]
    return b"".join(data for kind, data in said if kind == b"B")


def error(sql: str, files: Mapping[str, str], **task: Any) -> dict[str, Any]:
    kind, data = frames(sql, files, **task)[-1]
    assert kind == b"E", data
    told: dict[str, Any] = json.loads(data)
    return told


@pytest.mark.parametrize("sql", EVERY)
def test_a_way_out_is_refused_before_it_runs(sql: str, files: Mapping[str, str]) -> None:
    said = frames(filled(sql, files), files)
    assert [kind for kind, _ in said] == [b"E"]
    assert json.loads(said[0][1])["kind"] == "refused"


@pytest.mark.parametrize("sql", MALFORMED)
def test_what_cannot_be_run_is_told(sql: str, files: Mapping[str, str]) -> None:
    assert error(sql, files)["kind"] in ("invalid", "refused")


@pytest.mark.parametrize("sql", [*FORBIDDEN["files"], *FORBIDDEN["network"], *FORBIDDEN["extensions"]])
def test_the_locks_hold_by_themselves(
    sql: str, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "judged", lambda *_: frozenset())
    said = b"".join(data for _, data in frames(filled(sql, files), files))
    assert b"secret" not in said.replace(b"secret.csv", b"")
    assert Path(files["file"]).read_text() == "secret\n1\n"


def test_functions_that_may_be_called_exist_and_new_ones_are_not_among_them() -> None:
    known = {
        row[0].lower()
        for row in duckdb.sql("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    }
    assert FUNCTIONS - known <= {"current_date", "unnest"}
    assert known >= TABLE_FUNCTIONS
    assert not {"getenv", "getvariable", "current_setting", "query", "read_text"} & FUNCTIONS


LEGITIMATE = (
    "SELECT symbol, count(*), sum(price), avg(price) FROM trades GROUP BY ALL ORDER BY ALL",
    "SELECT DISTINCT ON (symbol) symbol, price FROM trades ORDER BY symbol",
    "SELECT symbol, row_number() OVER w, lag(price) OVER w FROM trades WINDOW w AS (ORDER BY price)",
    "WITH a AS (SELECT * FROM trades), b AS (SELECT * FROM a) SELECT count(*) FROM a JOIN b USING (symbol)",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r",
    "SELECT t.symbol, q.price AS q FROM trades t ASOF JOIN quotes q "
    "ON t.symbol = q.symbol AND t.price >= q.price",
    "SELECT unnest([1, 2]) AS n, {'a': 1, 'b': [2.5]} AS s, map {'k': 1} AS m",
    "SELECT * FROM unnest([1, 2]) AS u(n), range(3) AS r(k), generate_series(1, 2) AS g(j)",
    "SELECT [x * 2 FOR x IN [1, 2, 3] IF x > 1] AS l, list_transform([1], lambda x: x + 1) AS t",
    "SELECT CASE WHEN price > 1 THEN 'a' ELSE 'b' END, price BETWEEN 1 AND 2, symbol LIKE 'A%', "
    "symbol IN ('A'), coalesce(NULL, 1), nullif(1, 2), CAST(price AS DECIMAL(38, 12)) AS d FROM trades",
    "SELECT extract(year FROM TIMESTAMPTZ '2024-01-01'), time_bucket(INTERVAL 1 MINUTE, "
    "TIMESTAMPTZ '2024-01-01 00:00:30Z'), date_trunc('day', now()) IS NOT NULL",
    "SELECT symbol FROM trades UNION SELECT symbol FROM quotes EXCEPT SELECT 'B' ORDER BY 1",
    "SELECT * FROM (PIVOT trades ON symbol IN ('A', 'B') USING sum(price))",
    "SELECT * FROM (UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME n VALUE v)",
    "SELECT symbol, sum(price) FROM trades GROUP BY ROLLUP (symbol) QUALIFY row_number() OVER () > 0",
    "SELECT * EXCLUDE (price), COLUMNS('pri.*') AS p FROM trades LIMIT 1 OFFSET 1",
    "SELECT TRY_CAST('x' AS INTEGER), -price, price % 2, price // 2, NOT true FROM trades TABLESAMPLE 100%",
    "SELECT (SELECT max(price) FROM quotes), EXISTS (FROM trades), 1 = ANY (SELECT 1)",
    "SELECT j.value FROM json_each('[1, 2]') AS j",
    "FROM trades SELECT symbol WHERE price > $least",
    "VALUES (1), (2)",
    "DESCRIBE trades",
    "SUMMARIZE trades",
)


@pytest.mark.parametrize("sql", LEGITIMATE)
def test_what_researchers_write_passes(sql: str, files: Mapping[str, str]) -> None:
    assert answer(sql, files, parameters={"least": 0} if "$least" in sql else {})


def test_the_tables_that_a_statement_reads_are_told(files: Mapping[str, str]) -> None:
    sql = "WITH a AS (SELECT * FROM Trades) SELECT * FROM a WHERE price > (SELECT 1)"
    assert json.loads(frames(sql, files)[0][1]) == {"tables": ["trades"]}
    shadowed = "WITH trades AS (SELECT 1 AS n) SELECT * FROM trades"
    assert json.loads(frames(shadowed, files)[0][1]) == {"tables": []}


def test_positions_count_characters_from_one(files: Mapping[str, str]) -> None:
    assert error("SELECT 'é', nope FROM trades", files)["position"] == 13
    assert error("SELECT 'é', * FROM read_text('x')", files)["position"] == 20
    assert error("SELECT 'é' FROM FROM", files)["position"] == 17


def test_a_value_that_does_not_fit_and_a_file_that_is_gone_are_told_apart(files: Mapping[str, str]) -> None:
    assert error("SELECT CAST(symbol AS INTEGER) AS n FROM trades", files)["kind"] == "value"
    gone = {"k2_0": [f"{files['planned']}.gone"]}
    told = error("SELECT * FROM trades", files, variables=gone)
    assert told["kind"] == "unavailable"
    assert "gone" not in told["message"]


def test_memory_has_its_limit(files: Mapping[str, str]) -> None:
    sql = "SELECT string_agg(repeat('x', 1000000), '') AS s FROM range(3000)"
    assert error(sql, files)["kind"] == "too_large"


def test_depth_has_its_limit(files: Mapping[str, str]) -> None:
    deep = "(SELECT " * 150 + "1" + ")" * 150
    assert error(f"SELECT {deep} AS x", files)["kind"] in ("refused", "invalid")


EXACT = """SELECT 0.000000000123::DECIMAL(28,12) AS d, 10::DECIMAL(10,0) AS ten,
    1267650600228229401496703205376 AS h,
    5::BIGINT AS t_ns, 'nan'::DOUBLE AS n, 1.5::DOUBLE AS f, [1.50::DECIMAL(5,2)] AS l,
    {'a': 'nan'::FLOAT} AS s, TIMESTAMPTZ '2024-01-01 00:00:00.123456Z' AS z,
    TIMESTAMP_NS '2024-01-01 00:00:00.123456789' AS ns,
    DATE '2024-01-01' AS day, NULL AS nothing, true AS yes, 'a"b,c' AS text, '' AS empty, map {'k': 1.0} AS m,
    INTERVAL 1 DAY AS i"""


def test_json_loses_nothing(files: Mapping[str, str]) -> None:
    assert json.loads(answer(EXACT, files)) == {
        "d": "0.000000000123",
        "ten": "10",
        "h": "1267650600228229401496703205376",
        "t_ns": "5",
        "n": None,
        "f": 1.5,
        "l": ["1.50"],
        "s": {"a": "nan"},
        "z": "2024-01-01T00:00:00.123456000Z",
        "ns": "2024-01-01T00:00:00.123456789",
        "day": "2024-01-01",
        "nothing": None,
        "yes": True,
        "text": 'a"b,c',
        "empty": "",
        "m": {"k": "1.0"},
        "i": "1 day",
    }


def test_csv_says_the_same(files: Mapping[str, str]) -> None:
    sql = """SELECT 1.50::DECIMAL(5,2) AS "a,b", NULL AS n, '' AS e, 'x"y' AS q, [1] AS l, 'plain' AS p"""
    assert answer(sql, files, format="csv") == b'"a,b",n,e,q,l,p\n1.5,,"","x""y",[1],plain\n'


def test_files_hold_the_rows_in_their_types(files: Mapping[str, str]) -> None:
    sql = "SELECT range::DECIMAL(28,12) AS d FROM range(40000) ORDER BY 1"
    arrow = pa.ipc.open_stream(answer(sql, files, format="arrow")).read_all()
    parquet = pq.read_table(io.BytesIO(answer(sql, files, format="parquet")))
    assert arrow.num_rows == 40_000
    assert arrow.schema.field("d").type == pa.decimal128(28, 12)
    assert parquet.equals(arrow)
    empty = pa.ipc.open_stream(answer(f"{sql} LIMIT 0", files, format="arrow")).read_all()
    assert (empty.num_rows, empty.column_names) == (0, ["d"])
    assert error("SELECT INTERVAL 1 DAY AS i", files, format="parquet")["kind"] == "invalid"


def test_a_limit_cuts_off_and_says_so(files: Mapping[str, str]) -> None:
    said = frames("SELECT * FROM range(100000)", files, limit=20_000)
    assert json.loads(said[-1][1]) == {"rows": 20_000, "more": True}
    said = frames("SELECT * FROM range(20000)", files, limit=20_000)
    assert json.loads(said[-1][1]) == {"rows": 20_000, "more": False}


def test_rows_can_be_put_in_one_order(files: Mapping[str, str]) -> None:
    sql = "SELECT symbol, -price AS p FROM trades ORDER BY symbol DESC"
    assert answer(sql, files, sorted=True).splitlines() == [
        b'{"symbol":"A","p":-1}',
        b'{"symbol":"B","p":-2}',
    ]


def test_two_columns_of_one_name_are_refused(files: Mapping[str, str]) -> None:
    assert "'n'" in error("SELECT 1 AS n, 2 AS n", files)["message"]


def test_a_process_that_is_told_nothing_ends(files: Mapping[str, str]) -> None:
    said: list[bytes] = []
    serve(lambda: b"", lambda kind, _: said.append(kind), confine=lambda _: None)
    assert said == []


def test_the_judge_needs_what_the_parser_gave() -> None:
    with pytest.raises(StatementRefused, match="one statement"):
        Cell(memory_megabytes=128, threads=1, send=lambda *_: None).judge(
            {"sql": "SELECT 1; SELECT 2", "views": []}
        )
