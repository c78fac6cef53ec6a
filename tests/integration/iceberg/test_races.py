"""Two owners of the same partition, killed or not, write each offset once."""

import multiprocessing
import random
import signal
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog, sink_in_process

ROWS = 7
KILLS = 25
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["k2common.testing.iceberg"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ensure_tables(open_catalog(folder_catalog(tmp_path)), [TRADES])
    return tmp_path


def replica(home: Path, *, commits: int, partition: int = 0) -> BaseProcess:
    arguments = {"commits": commits, "rows": ROWS, "partition": partition}
    process = SERVER.Process(target=sink_in_process, args=(str(home),), kwargs=arguments, daemon=True)
    process.start()
    return process


def check_each_offset_once(home: Path) -> int:
    table = load_table(open_catalog(folder_catalog(home)), TRADES.table)
    head = head_version(table)
    rows = table.scan(selected_fields=("kafka_partition", "kafka_offset")).to_arrow()
    places = sorted(zip(rows["kafka_partition"].to_pylist(), rows["kafka_offset"].to_pylist(), strict=True))
    assert head is not None
    assert places == [(p, offset) for p, end in sorted(head.offsets.items()) for offset in range(end)]
    return len(places)


def test_threads_that_own_the_same_partition(home: Path) -> None:
    threads = [
        threading.Thread(target=sink_in_process, args=(str(home),), kwargs={"commits": 40, "rows": ROWS})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert check_each_offset_once(home) == 80 * ROWS


def test_processes_that_own_the_same_partition_and_one_beside_them(home: Path) -> None:
    processes = [replica(home, commits=30, partition=partition) for partition in (0, 0, 1)]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert check_each_offset_once(home) == 90 * ROWS


def test_replicas_that_are_killed_at_any_moment(home: Path) -> None:
    moments = random.Random(20260302)
    survivor = replica(home, commits=1_000_000)
    for _ in range(KILLS):
        victim = replica(home, commits=1_000_000)
        victim.join(timeout=moments.uniform(0.05, 0.8))
        victim.kill()
        victim.join()
        assert victim.exitcode == -signal.SIGKILL
    assert survivor.is_alive()
    survivor.kill()
    survivor.join()

    assert check_each_offset_once(home) > KILLS * ROWS
    append_trades(open_catalog(folder_catalog(home)), ROWS)
    check_each_offset_once(home)
