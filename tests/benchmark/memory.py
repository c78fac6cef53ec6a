"""Resident memory of a gateway and a loader while a large file goes through, and what the loader costs.

    python tests/benchmark/memory.py [--gigabytes 2]

The file is written to disk first, and streamed from there; small uploads go in beside it. Before and after,
a strict typed pyarrow.csv read of the same file in one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from k2common.columnar.arrow import DECIMAL
from k2common.testing.generator import trades_csv
from k2local import cli
from k2local.testing import Fleet, running_fleet

from tests.benchmark.fleet import BLOCK_BYTES, ROOT, cpu_seconds

BLOCK_ROWS = 500_000
WAIT_SECONDS = 3600
ALONE_SECONDS = 20
HEADER = "ts_event_ns,symbol,venue,price,size\n"
SERVICES = ("ingest-gateway", "csv-loader", "iceberg-sink")


def write_file(path: Path, size: int) -> int:
    """A file of about `size` bytes: the header and one block of rows, again and again. Its rows."""
    header, _, block = trades_csv(BLOCK_ROWS, seed=1).partition(b"\n")
    rows = 0
    with path.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < size:
            file.write(block)
            rows += BLOCK_ROWS
    return rows


def strict_read(path: Path) -> float:
    """CPU seconds of reading every row with types and keeping none."""
    started = time.process_time()
    reader = pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(
            column_types={
                "price": DECIMAL,
                "size": DECIMAL,
                "trade_id": pa.string(),
                "conditions": pa.string(),
            }
        ),
    )
    for _ in reader:
        pass
    return time.process_time() - started


def peaks(fleet: Fleet) -> dict[str, float]:
    """Highest resident memory of each service so far, in MB of a million bytes."""
    found = {}
    for state in cli.status(fleet.settings):
        if state.name in SERVICES and state.pid is not None:
            text = Path(f"/proc/{state.pid}/status").read_text("ascii")
            match = re.search(r"VmHWM:\s+(\d+) kB", text)
            found[state.name] = int(match[1]) * 1024 / 1e6 if match else 0.0
    return found


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


class Beside(threading.Thread):
    """Posts a small upload again and again, and notes how long each took until it was committed."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self.ended = threading.Event()
        self.seconds: list[float] = []

    def run(self) -> None:
        number = 0
        while not self.ended.wait(0.5):
            number += 1
            rows = "".join(f"{number}{n:03},S,XTST,1,1\n" for n in range(100))
            started = time.perf_counter()
            receipt = self._fleet.upload(f"{HEADER}{rows}".encode(), dataset="trades", source="small")
            if receipt["state"] != "committed":
                raise SystemExit(f"a small upload is {receipt['state']}")
            self.seconds.append(time.perf_counter() - started)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    options = parser.parse_args()
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with tempfile.TemporaryDirectory() as home, running_fleet(Path(home) / "fleet", cache) as fleet:
        path = Path(home) / "large.csv"
        rows = write_file(path, int(options.gigabytes * 1e9))
        strict = [strict_read(path)]
        alone = Beside(fleet)
        alone.start()
        # The time in which small uploads are measured with nothing beside them.
        time.sleep(ALONE_SECONDS)
        alone.ended.set()
        alone.join()
        beside = Beside(fleet)
        beside.start()
        before, started = cpu_seconds(fleet), time.perf_counter()
        answer = httpx.post(
            f"{fleet.url('ingest-gateway')}/v1/uploads",
            params={"dataset": "trades", "source": "large"},
            content=blocks(path),
            headers={"Content-Type": "text/csv"},
            timeout=WAIT_SECONDS,
        )
        answer.raise_for_status()
        upload_id = answer.json()["data"]["upload_id"]
        while (receipt := fleet.receipt(upload_id))["state"] not in ("committed", "failed"):
            if time.perf_counter() - started > WAIT_SECONDS:
                raise SystemExit(f"not through in time: {receipt}")
        beside.ended.set()
        beside.join()
        seconds, after = time.perf_counter() - started, cpu_seconds(fleet)
        strict.append(strict_read(path))
        if receipt["rows"]["committed"] != rows:
            raise SystemExit(f"{receipt['rows']} of {rows} rows")
        print(f"{path.stat().st_size / 1e9:.2f} GB, {rows:,} rows, {rows / seconds:,.0f} rows/s")
        for name, peak in peaks(fleet).items():
            cpu = (after[name] - before[name]) / rows * 1e6
            print(f"  {name:16} peak {peak:.0f} MB | CPU s per million rows {cpu:.2f}")
        for name, times in (("alone", alone.seconds), ("beside it", beside.seconds)):
            print(
                f"  small uploads {name}: {len(times)}, until committed p50 {np.median(times):.2f} s, "
                f"p99 {np.quantile(times, 0.99):.2f} s"
            )
        each = " ".join(f"{cpu / rows * 1e6:.2f}" for cpu in strict)
        print(f"  strict pyarrow.csv, before and after: CPU s per million rows {each}")


if __name__ == "__main__":
    main()
