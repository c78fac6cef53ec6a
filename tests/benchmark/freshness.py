"""From POST to visible in a query: small uploads at a steady rate while the sink compacts.

    python -m tests.benchmark.freshness [--minutes 10] [--uploads-per-second 10] [--rows 100]

Every fifth upload has a symbol of its own that the query service is asked for until it is there. Percentiles
are printed minute by minute: they are to stay as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import httpx
from k2local.testing import Fleet, running_fleet

ROOT = Path(__file__).parents[2]
HEADER = "ts_event_ns,symbol,venue,price,size\n"
START_NS = 1_700_000_000_000_000_000
WATCHED = 5
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 60


class Load:
    """The uploads of one run, and how long each that is watched took."""

    def __init__(self, fleet: Fleet, client: httpx.AsyncClient, *, rows: int) -> None:
        self._fleet = fleet
        self._client = client
        self._rows = rows
        self.seconds: dict[int, list[float]] = defaultdict(list)
        self.missing = 0

    async def upload(self, number: int, minute: int) -> None:
        """POST one, and wait until it is seen if it is watched."""
        watched = number % WATCHED == 0
        symbol = f"W{number}" if watched else f"S{number % 50}"
        at = START_NS + number * 1_000_000
        lines = "".join(f"{at + n},{symbol},XTST,1.{n % 100:02},1\n" for n in range(self._rows))
        started = time.perf_counter()
        answer = await self._client.post(
            f"{self._fleet.url('ingest-gateway')}/v1/uploads",
            params={"dataset": "trades", "source": "freshness"},
            content=(HEADER + lines).encode(),
        )
        answer.raise_for_status()
        if not watched:
            return
        while time.perf_counter() - started < GIVE_UP_SECONDS:
            if await self._is_seen(symbol):
                self.seconds[minute].append(time.perf_counter() - started)
                return
            await asyncio.sleep(POLL_SECONDS)
        self.missing += 1

    async def _is_seen(self, symbol: str) -> bool:
        answer = await self._client.get(
            f"{self._fleet.url('query-service')}/v1/trades",
            params={"symbols": symbol, "limit": 1, "format": "csv"},
        )
        return answer.status_code == httpx.codes.OK and len(answer.text.splitlines()) > 1


async def run(fleet: Fleet, *, minutes: float, per_second: float, rows: int) -> Load:
    """Uploads at a steady rate, whatever the answers do."""
    limits = httpx.Limits(max_connections=200, keepalive_expiry=2)
    async with httpx.AsyncClient(timeout=GIVE_UP_SECONDS, limits=limits) as client:
        load = Load(fleet, client, rows=rows)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(minutes * 60 * per_second)):
                due = started + number / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(load.upload(number, int((due - started) // 60)))
    return load


def line(name: str, seconds: Sequence[float]) -> str:
    """Percentiles of these times."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"{name}: n {len(ordered)}, p50 {statistics.median(ordered):.2f} s, p99 {p99:.2f} s"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--uploads-per-second", type=float, default=10)
    parser.add_argument("--rows", type=int, default=100)
    options = parser.parse_args()
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with tempfile.TemporaryDirectory() as home, running_fleet(Path(home) / "fleet", cache) as fleet:
        load = asyncio.run(
            run(fleet, minutes=options.minutes, per_second=options.uploads_per_second, rows=options.rows)
        )
    for minute, seconds in sorted(load.seconds.items()):
        print(line(f"minute {minute + 1}", seconds))
    print(line("all", [s for each in load.seconds.values() for s in each]) + f", never seen {load.missing}")


if __name__ == "__main__":
    main()
