"""A thousand commits on one table, with compaction, expiry and collection beside them as in the sink.

`python -m tests.benchmark.commits [--commits 1000] [--rows 100]` prints the time of a commit per hundred,
the ratio of the last hundred to the first, and what the tables are made of. Each version is recorded in
`ingest.versions` by a commit of its own, since snapshots expire only after that.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from iceberg_sink.commits.recorded_versions import Recorded
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.inventory import inventory
from k2common.iceberg.maintenance.orphan_files import Sweeper
from k2common.iceberg.maintenance.rewrite import Bounds
from k2common.iceberg.reading.reader import VersionReader
from k2common.schemas.datasets import TRADES, VERSIONS, Dataset
from k2common.testing.iceberg import append_trades, folder_catalog, record_version

LIVE = 30
BOUNDS = Bounds(rows=250_000, bytes=64 * 1024 * 1024)
COMPACT_SECONDS, COLLECT_SECONDS = 1.0, 10.0
GUARD = timedelta(seconds=20)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100, help="rows of a commit")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_catalog(folder_catalog(Path(folder)))
        ensure_tables(catalog, [TRADES, VERSIONS])
        ended = threading.Event()
        beside = [
            threading.Thread(target=maintain, args=(catalog, dataset, ended))
            for dataset in (TRADES, VERSIONS)
        ]
        for thread in beside:
            thread.start()
        try:
            taken = commits(catalog, given.commits, given.rows)
        finally:
            ended.set()
            for thread in beside:
                thread.join()
        report(taken)
        for dataset in (TRADES, VERSIONS):
            describe(catalog, dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTime:
    """Seconds that a commit took: by the clock, and of its thread's processor time."""

    wall: float
    cpu: float


def commits(catalog: Catalog, count: int, rows: int) -> list[CommitTime]:
    """What each commit of the table of trades took, from reading its head to the committed snapshot."""
    retention = retained(catalog, TRADES)
    taken = []
    for number in range(1, count + 1):
        wall, cpu = time.perf_counter(), time.thread_time()
        result = append_trades(catalog, rows, upload=f"U{number}", retention=retention)
        taken.append(CommitTime(wall=time.perf_counter() - wall, cpu=time.thread_time() - cpu))
        record_version(catalog, result, retention=retained(catalog, VERSIONS))
    return taken


def retained(catalog: Catalog, dataset: Dataset) -> Retention:
    """As the sink keeps snapshots."""
    return Retention(live=LIVE, recorded=Recorded(VersionReader(catalog), dataset))


def maintain(catalog: Catalog, dataset: Dataset, ended: threading.Event) -> None:
    """Compaction and collection until `ended`."""
    retention = retained(catalog, dataset)
    sweeper = Sweeper(catalog, dataset.table, guard=GUARD)
    rows = {"max_rows": BOUNDS.rows, "max_bytes": BOUNDS.bytes}
    swept = time.monotonic()
    while not ended.wait(COMPACT_SECONDS):
        with suppress(TransientError):  # it lost every race
            compact(catalog, dataset.table, order=dataset.order, retention=retention, **rows)
        if time.monotonic() - swept > COLLECT_SECONDS:
            sweeper.sweep(now=datetime.now(UTC), ended=ended.is_set)
            swept = time.monotonic()


def report(taken: list[CommitTime]) -> None:
    """The curve."""
    hundreds = [taken[first : first + 100] for first in range(0, len(taken), 100)]
    middle = []
    for number, part in enumerate(hundreds):
        wall = sorted(one.wall for one in part)
        middle.append((median(wall), median(one.cpu for one in part)))
        times = f"p50 {middle[-1][0] * 1000:6.1f} ms  p90 {_at(wall, 0.9):6.1f}  max {_at(wall, 1):6.1f}"
        first = number * 100
        print(f"commits {first + 1:5}-{first + len(part):5}  {times}  cpu p50 {middle[-1][1] * 1000:5.1f}")
    wall_ratio, cpu_ratio = (middle[-1][n] / middle[0][n] for n in (0, 1))
    print(f"last / first hundred: {wall_ratio:.2f} (wanted: at most 1.3), of processor time {cpu_ratio:.2f}")


def describe(catalog: Catalog, dataset: Dataset) -> None:
    """What the table is made of, and what its folder holds."""
    table = load_table(catalog, dataset.table)
    found = inventory(table, bounds=BOUNDS)
    on_disk = [path for path in Path(table.location().removeprefix("file://")).rglob("*") if path.is_file()]
    print(
        f"{dataset.table}: {found.rows} rows, {found.data_files} data files, {found.manifests} manifests, "
        f"{found.metadata_files} metadata files, {found.snapshots} snapshots; {len(on_disk)} files on disk, "
        f"unreferenced ones of the last {GUARD.seconds} s and more among them"
    )


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


if __name__ == "__main__":
    main()
