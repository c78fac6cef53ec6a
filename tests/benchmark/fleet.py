"""Rows per second and CPU seconds of the fleet beside the same work without Kafka, interleaved in one run.

    python tests/benchmark/fleet.py [--rows 2000000] [--rounds 3]

The fleet's time runs from the last byte of the POST's body to the committed receipt. The ceiling is one
process and one thread: pyarrow.csv, then the fleet's own sort, Parquet files and commit.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from k2common.columnar.arrow import DECIMAL, arrow_schema
from k2common.columnar.sorting import sorted_rows
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.files.data_files import write
from k2common.schemas.datasets import TRADES, avro_schema
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import START, first_version, folder_catalog
from k2local import cli
from k2local.testing import Fleet, running_fleet

ROOT = Path(__file__).parents[2]
BLOCK_BYTES = 1024 * 1024
COMMIT_ROWS = 300_000
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One round of one contender."""

    seconds: float
    cpu: Mapping[str, float]


def fleet_round(fleet: Fleet, content: bytes, label: str) -> Run:
    """POST the file as a new upload and wait until it is committed."""
    sent: list[float] = []

    def body() -> Iterator[bytes]:
        for at in range(0, len(content), BLOCK_BYTES):
            yield content[at : at + BLOCK_BYTES]
        sent.append(time.perf_counter())

    before = cpu_seconds(fleet)
    answer = httpx.post(
        f"{fleet.url('ingest-gateway')}/v1/uploads",
        params={"dataset": "trades", "source": label},
        content=body(),
        timeout=300,
    )
    answer.raise_for_status()
    receipt = fleet.receipt(answer.json()["data"]["upload_id"], seconds=300)
    seconds = time.perf_counter() - sent[0]
    if receipt["state"] != "committed":
        raise SystemExit(f"the upload is {receipt['state']}: {receipt}")
    after = cpu_seconds(fleet)
    return Run(seconds=seconds, cpu={name: after[name] - before[name] for name in before})


def cpu_seconds(fleet: Fleet) -> Mapping[str, float]:
    """User and system time of every component so far."""
    return {state.name: _cpu(state.pid) for state in cli.status(fleet.settings) if state.pid is not None}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def ceiling_round(home: Path, content: bytes) -> Run:
    """The same rows to a table of its own, in this thread."""
    catalog = open_catalog(folder_catalog(home))
    ensure_tables(catalog, [TRADES])
    started, cpu = time.perf_counter(), time.process_time()
    reader = pacsv.open_csv(
        io.BytesIO(content),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=32 * BLOCK_BYTES),
        convert_options=pacsv.ConvertOptions(
            column_types={
                "price": DECIMAL,
                "size": DECIMAL,
                "trade_id": pa.string(),
                "conditions": pa.string(),
            }
        ),
    )
    pending: list[pa.RecordBatch] = []
    line = 2
    for batch in reader:
        pending.append(batch)
        if sum(part.num_rows for part in pending) >= COMMIT_ROWS:
            line = _commit(catalog, pending, line)
            pending = []
    if pending:
        _commit(catalog, pending, line)
    return Run(seconds=time.perf_counter() - started, cpu={"one thread": time.process_time() - cpu})


def _commit(catalog: Any, parts: list[pa.RecordBatch], line: int) -> int:
    read = pa.Table.from_batches(parts).combine_chunks()
    rows = sorted_rows(_dataset(read, line), TRADES.order)
    head = {0: line - 2} if line > 2 else {0: None}
    proposal = Proposal(
        table=TRADES.table,
        epoch=0,
        change=lambda known: (known or first_version(TRADES.table)).successor(
            now=START, offsets={0: line - 2 + rows.num_rows}, hidden={}
        ),
        expected=head,
        files=write(rows, table=load_table(catalog, TRADES.table)),
    )
    commit(catalog, proposal)
    return line + read.num_rows


def _dataset(read: pa.Table, line: int) -> pa.Table:
    """The columns of the dataset, as cheap as they can be made."""
    count = read.num_rows
    lines = np.arange(line, line + count)

    def constant(value: Any, kind: Any) -> Any:
        return pa.repeat(pa.scalar(value, kind), count)

    words = pc.dictionary_encode(read["conditions"].combine_chunks())
    lists = pa.array([word.split(" ") if word else [] for word in words.dictionary.to_pylist()])
    micros = pc.divide(read["ts_event_ns"], 1000).cast(pa.timestamp("us", "UTC"))
    given = {
        **{
            name: read[name]
            for name in ("symbol", "venue", "price", "size", "trade_id", "sequence", "currency")
        },
        "ts_event_ns": read["ts_event_ns"],
        "ts_recv_ns": read["ts_recv_ns"],
        "ts_event": micros,
        "trading_date": micros.cast(pa.timestamp("us")).cast(pa.date32()),
        "side": pc.if_else(pc.equal(read["side"], ""), "unknown", read["side"]),
        "conditions": lists.take(words.indices),
        "source": constant("ceiling", pa.string()),
        "asset_class": constant("other", pa.string()),
        "upload_id": constant("U", pa.string()),
        "ts_ingest": constant(START, pa.timestamp("us", "UTC")),
        "flags": constant(0, pa.int32()),
        "attributes": pa.array([[]], pa.map_(pa.string(), pa.string())).take(
            pa.array(np.zeros(count, np.int8))
        ),
        "line": pa.array(lines),
        "kafka_epoch": constant(0, pa.int32()),
        "kafka_partition": constant(0, pa.int32()),
        "kafka_offset": pa.array(lines - 2),
    }
    names = [*arrow_schema(avro_schema("trades")).names, "kafka_epoch", "kafka_partition", "kafka_offset"]
    return pa.table({name: given[name] for name in names})


def report(rows: int, fleet: list[Run], ceiling: list[Run]) -> None:
    """Print medians and bests, the ratio round by round, and CPU seconds per million rows."""
    millions = rows / 1e6
    for name, runs in (("fleet", fleet), ("ceiling", ceiling)):
        rates = [rows / run.seconds for run in runs]
        cpu = [sum(run.cpu.values()) / millions for run in runs]
        print(
            f"{name:8} rows/s median {statistics.median(rates):,.0f} best {max(rates):,.0f}"
            f" | CPU s per million rows median {statistics.median(cpu):.2f} best {min(cpu):.2f}"
        )
    ratios = [c.seconds / f.seconds for f, c in zip(fleet, ceiling, strict=True)]
    print(
        f"fleet / ceiling: median {statistics.median(ratios):.2f} best {max(ratios):.2f}"
        f" | each {' '.join(f'{ratio:.2f}' for ratio in ratios)}"
    )
    for name in fleet[0].cpu:
        each = [run.cpu[name] / millions for run in fleet]
        print(f"  {name:16} CPU s per million rows median {statistics.median(each):.2f}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    content = trades_csv(options.rows, seed=1)
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    fleet_runs: list[Run] = []
    ceiling_runs: list[Run] = []
    with tempfile.TemporaryDirectory() as home, running_fleet(Path(home) / "fleet", cache) as fleet:
        warm = trades_csv(min(200_000, options.rows), seed=2)
        fleet_round(fleet, warm, "warm")
        for number in range(options.rounds):
            folder = Path(home) / f"ceiling-{number}"
            folder.mkdir()
            ceiling_runs.append(ceiling_round(folder, content))
            fleet_runs.append(fleet_round(fleet, content, f"round-{number}"))
            print(
                f"round {number}: fleet {fleet_runs[-1].seconds:.1f} s,"
                f" ceiling {ceiling_runs[-1].seconds:.1f} s",
                flush=True,
            )
    report(options.rows, fleet_runs, ceiling_runs)


if __name__ == "__main__":
    main()
