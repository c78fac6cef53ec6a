"""Queries over HTTP beside other engines on the same ten million trades, in one run, interleaved.

`./task bench:queries` makes the warehouse once in .k2/bench, installs the other engines into an environment
of their own there, and prints the tables of docs/benchmarks.md. Each round asks every contender the same.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from k2common.iceberg.catalogs.catalog import load_table
from k2common.iceberg.files.manifest_index import Contents
from k2common.schemas.datasets import TRADES
from k2common.testing.generator import FIRST_DAY
from k2local.ports import free_port

from tests.benchmark.contender import QUERIES
from tests.benchmark.warehouse import SYMBOLS, warehouse

HERE = Path(__file__).parent
OTHERS = ("read_parquet", "iceberg_scan", "chdb", "ArcticDB")
PACKAGES = (
    "duckdb==1.5.5",
    "duckdb-extension-avro==1.5.5",
    "duckdb-extension-iceberg==1.5.5",
    "pyarrow==26.0.1",
    "chdb==4.4.0",
    "arcticdb==6.28.2",
)
PATHS = {
    "last 100": "/v1/trades?symbols={symbol}&sort=desc&limit=100",
    "symbol-day": "/v1/trades?symbols={symbol}&trading_date={day}&limit=1000",
    "symbol-day, Arrow": "/v1/trades?symbols={symbol}&trading_date={day}&format=arrow",
    "minute bars": "/v1/bars?symbols={symbol}&trading_date={day}&timeframe=1Min",
    "day summary": "/v1/summary/{symbol}/{day}",
}
HEAD, OLD = "HTTP", "HTTP, old version"


class Worker:
    """A contender in its process."""

    def __init__(self, python: Path, name: str, given: Path) -> None:
        command = [str(python), str(HERE / "contender.py"), name, str(given)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit(f"{name} did not start")

    def ask(self, asked: dict[str, Any]) -> Sequence[float]:
        """Seconds of each query."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        found: list[float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


class Http:
    """The query service, over one connection for each client."""

    def __init__(self, port: int, given: dict[str, Any], as_of: str | None) -> None:
        self._port = port
        self._given = given
        self._suffix = "" if as_of is None else f"as_of={as_of}"

    def ask(self, asked: dict[str, Any]) -> Sequence[float]:
        """Seconds of each query."""
        found: list[float] = []
        clients = [
            threading.Thread(target=self._client, args=(n, asked, found)) for n in range(asked["clients"])
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        if len(found) < asked["clients"] * asked["count"]:
            raise SystemExit(f"{asked['query']}: a request failed")
        return found

    def close(self) -> None:
        """Nothing is held."""

    def _client(self, number: int, asked: dict[str, Any], found: list[float]) -> None:
        draw = random.Random(f"{asked['seed']} {number}")
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        for _ in range(asked["count"]):
            values = {"symbol": draw.choice(self._given["symbols"]), "day": draw.choice(self._given["days"])}
            path = PATHS[asked["query"]].format_map(values)
            if self._suffix:
                path += ("&" if "?" in path else "?") + self._suffix
            started = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            found.append(time.perf_counter() - started)
            if answer.status != http.client.OK:
                raise SystemExit(f"{path}: {answer.status} {body[:300]!r}")
        connection.close()


@contextmanager
def service(home: Path) -> Iterator[tuple[int, int]]:
    """The query service on the warehouse: its port and its process."""
    port = free_port(1)
    command = [sys.executable, "-m", "tests.benchmark.query_server", str(home), str(port)]
    with subprocess.Popen(command) as process:
        try:
            _until_up(port)
            yield port, process.pid
        finally:
            process.terminate()


def _until_up(port: int) -> None:
    for _ in range(240):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/livez")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.25)  # between looks at another process
        else:
            return
    raise SystemExit("the query service did not start")


def environment(home: Path) -> Path:
    """The Python that has the other engines."""
    python = home / "engines" / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", str(home / "engines")], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
    return python


def given_of(home: Path, *, rows: int, days: int) -> dict[str, Any]:
    """What every contender is told: the files by day, the metadata, symbols and days to draw from."""
    table = load_table(warehouse(home, rows=rows, days=days), TRADES.table)
    files = {}
    for file in Contents().of(table):
        offset = file.day - (FIRST_DAY - FIRST_DAY.fromordinal(719_163)).days
        files[FIRST_DAY.fromordinal(FIRST_DAY.toordinal() + offset).isoformat()] = file.path
    return {
        "files": dict(sorted(files.items())),
        "metadata": table.metadata_location,
        "symbols": [f"SYM{number:03}" for number in range(SYMBOLS)],
        "days": sorted(files),
        "arctic": str(home / "arctic"),
    }


def compared(contenders: dict[str, Any], *, clients: int, count: int, rounds: int) -> None:
    """Print p50 and p99 of each query by each contender, interleaved."""
    found: dict[tuple[str, str], list[float]] = {}
    for query in QUERIES:
        for round_ in range(rounds + 1):
            for name, contender in contenders.items():
                if clients > 1 and name == "chdb":
                    continue  # one query at a time
                asked = {"query": query, "clients": clients, "count": count, "seed": round_}
                seconds = contender.ask(asked)
                if round_:  # the first one warms up
                    found.setdefault((query, name), []).extend(seconds)
    print(f"\n{clients} client(s); milliseconds, p50 / p99\n")
    print("| query |", " | ".join(contenders), "|\n|---|" + "---|" * len(contenders))
    for query in QUERIES:
        cells = [_cell(found.get((query, name), [])) for name in contenders]
        print(f"| {query} |", " | ".join(cells), "|", flush=True)


def _cell(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return f"{median(seconds) * 1000:.1f} / {quantiles(seconds, n=100)[98] * 1000:.0f}"


def streamed(port: int, pid: int) -> None:
    """Print rows per second and the process's memory while all trades leave as one Arrow stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    connection.request("GET", "/v1/trades?format=arrow")
    answer = connection.getresponse()
    size, peak = 0, 0
    first = 0.0
    while part := answer.read(1 << 20):
        first = first or time.perf_counter() - started
        size += len(part)
        peak = max(peak, _resident(pid))
    seconds = time.perf_counter() - started
    print(
        f"\nArrow stream: {size / 1e6:.0f} MB in {seconds:.1f} s, first byte after {first:.2f} s, "
        f"resident at most {peak / 1e6:.0f} MB, CPU {_cpu(pid):.1f} s",
        flush=True,
    )


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * 4096


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".k2/bench"))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--count", type=int, default=30, help="queries of each client in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    options = parser.parse_args()
    options.home.mkdir(parents=True, exist_ok=True)
    given = given_of(options.home.resolve(), rows=options.rows, days=options.days)
    place = options.home / "given.json"
    place.write_text(json.dumps(given), "utf-8")
    python = environment(options.home)
    with service(options.home) as (port, pid):
        streamed(port, pid)
        # Half of the days and the half of one more, whose file straddles the version.
        half = options.days // 2 + 1
        old = {**given, "days": given["days"][:half]}
        contenders: dict[str, Any] = {
            HEAD: Http(port, given, None),
            OLD: Http(port, old, f"trades@{2 * half - 1}"),
            **{name: Worker(python, name, place) for name in OTHERS},
        }
        for clients in options.clients:
            compared(
                contenders, clients=clients, count=max(4, options.count // clients), rounds=options.rounds
            )
        for contender in contenders.values():
            contender.close()
        streamed(port, pid)


if __name__ == "__main__":
    main()
