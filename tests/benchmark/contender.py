"""One engine beside the query service, in a process and an environment of its own.

Reads one JSON object a line from standard input, {"query", "clients", "count", "seed"}, runs so many queries
by so many threads, and answers with the seconds of each. It knows nothing of the project: it is given files.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

COLUMNS = (
    "venue, source, asset_class, currency, upload_id, ts_ingest, symbol, trading_date, side, conditions, "
    "flags, attributes, ts_event, ts_event_ns, ts_recv_ns, sequence, price, size, trade_id, line"
)
ORDER = "ts_event_ns, sequence, venue, symbol, upload_id, line"
BACKWARDS = ", ".join(f"{name} DESC" for name in ORDER.split(", "))
MINUTE = 60_000_000_000
BARS = f"""
    SELECT ts_event_ns // {MINUTE} AS minute, arg_min(price, (ts_event_ns, sequence)) AS open,
        max(price) AS high, min(price) AS low, arg_max(price, (ts_event_ns, sequence)) AS close,
        sum(size) AS volume, sum(price * size) AS notional, count(*) AS trades
    FROM {{rows}} GROUP BY minute ORDER BY minute"""
SUMMARY = """
    SELECT arg_min(price, (ts_event_ns, sequence)) AS open, max(price) AS high, min(price) AS low,
        arg_max(price, (ts_event_ns, sequence)) AS close, sum(size) AS volume, sum(price * size) AS notional,
        count(*) AS trades
    FROM {rows}"""
QUERIES = {
    "last 100": f"SELECT {COLUMNS} FROM {{rows}} ORDER BY {BACKWARDS} LIMIT 100",
    "symbol-day": f"SELECT {COLUMNS} FROM {{rows}} ORDER BY {ORDER} LIMIT 1000",
    "symbol-day, Arrow": f"SELECT {COLUMNS} FROM {{rows}} ORDER BY {ORDER}",
    "minute bars": BARS,
    "day summary": SUMMARY,
}


class DuckDB:
    """`read_parquet` on the one file of the day, or `iceberg_scan` on the table's metadata."""

    def __init__(self, given: dict, *, iceberg: bool) -> None:
        import duckdb

        self.files, self.metadata, self.iceberg = given["files"], given["metadata"], iceberg
        self.database = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
        self.database.execute("SET GLOBAL parquet_metadata_cache = true")
        self.database.execute("SET GLOBAL TimeZone = 'UTC'")
        if iceberg:
            import duckdb_extension_avro
            import duckdb_extension_iceberg

            for package in (duckdb_extension_avro, duckdb_extension_iceberg):
                folder = Path(package.__file__).parent
                (extension,) = folder.glob("extensions/*/*.duckdb_extension")
                self.database.load_extension(str(extension))

    def session(self) -> Callable[[str, str, str], None]:
        cursor = self.database.cursor()

        def run(query: str, symbol: str, day: str) -> None:
            values: dict = {"symbol": symbol}
            if self.iceberg:
                values |= {"source": self.metadata, "first": day, "end": _next(day)}
                rows = (
                    "(SELECT * FROM iceberg_scan($source) WHERE symbol = $symbol"
                    " AND ts_event >= $first::TIMESTAMPTZ AND ts_event < $end::TIMESTAMPTZ)"
                )
            else:
                values["source"] = [self.files[day]]
                rows = "(SELECT * FROM read_parquet($source, hive_partitioning=false) WHERE symbol = $symbol)"
            cursor.execute(QUERIES[query].format(rows=rows), values).to_arrow_table()

        return run


class ClickHouse:
    """chdb on the one file of the day."""

    def __init__(self, given: dict) -> None:
        import chdb.session

        self.files = given["files"]
        self.sessions = chdb.session.Session()
        self.lock = threading.Lock()

    def session(self) -> Callable[[str, str, str], None]:
        def run(query: str, symbol: str, day: str) -> None:
            path = self.files[day].removeprefix("file://")
            rows = f"(SELECT * FROM file('{path}', Parquet) WHERE symbol = '{symbol}')"
            text = QUERIES[query].format(rows=rows).replace("//", "DIV").replace("arg_", "arg")
            with self.lock:
                self.sessions.query(
                    text.replace("argmin", "argMin").replace("argmax", "argMax"), "ArrowStream"
                )

        return run


class Arctic:
    """ArcticDB on its own storage: one frame for each symbol, with times as its index."""

    def __init__(self, given: dict) -> None:
        import arcticdb

        home = Path(given["arctic"])
        new = not home.exists()
        store = arcticdb.Arctic(f"lmdb://{home}?map_size=8GB")
        self.library = store.get_library("trades", create_if_missing=True)
        if new:
            self._load(list(given["files"].values()))

    def _load(self, files: list[str]) -> None:
        import duckdb

        prices = "price::DOUBLE AS price, size::DOUBLE AS size"
        names = f"symbol, ts_event_ns, sequence, {prices}, side, trade_id, line"
        found = duckdb.connect()
        sql = "SELECT DISTINCT symbol FROM read_parquet($f) ORDER BY 1"
        for (symbol,) in found.execute(sql, {"f": files}).fetchall():
            sql = f"SELECT {names} FROM read_parquet($f) WHERE symbol = $s ORDER BY ts_event_ns"
            frame = found.execute(sql, {"f": files, "s": symbol}).df()
            frame.index = frame.pop("ts_event_ns").astype("datetime64[ns]")
            self.library.write(symbol, frame)

    def session(self) -> Callable[[str, str, str], None]:
        def run(query: str, symbol: str, day: str) -> None:
            if query == "last 100":
                self.library.tail(symbol, 100)
                return
            span = (
                datetime.fromisoformat(day),
                datetime.fromisoformat(_next(day)) - timedelta(microseconds=1),
            )
            frame = self.library.read(symbol, date_range=span).data
            if query == "minute bars":
                frame["price"].resample("1min").ohlc()
                frame["size"].resample("1min").sum()
            if query == "day summary":
                price, size = frame["price"], frame["size"]
                _ = (
                    price.iloc[0],
                    price.max(),
                    price.min(),
                    price.iloc[-1],
                    size.sum(),
                    (price * size).sum(),
                )

        return run


def _next(day: str) -> str:
    return (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()


def measured(contender: object, asked: dict, symbols: list[str], days: list[str]) -> list[float]:
    """Seconds of each query."""
    seconds: list[float] = []

    def work(number: int) -> None:
        run, draw = contender.session(), random.Random(f"{asked['seed']} {number}")  # type: ignore[attr-defined]
        for _ in range(asked["count"]):
            symbol, day = draw.choice(symbols), draw.choice(days)
            started = time.perf_counter()
            run(asked["query"], symbol, day if asked["query"] != "last 100" else days[-1])
            seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(asked["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def main(name: str, given: dict) -> None:
    """Serve requests until standard input ends."""
    made = {
        "read_parquet": lambda: DuckDB(given, iceberg=False),
        "iceberg_scan": lambda: DuckDB(given, iceberg=True),
        "chdb": lambda: ClickHouse(given),
        "ArcticDB": lambda: Arctic(given),
    }[name]()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        found = measured(made, json.loads(line), given["symbols"], given["days"])
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")))
