"""Rows per second, CPU seconds and memory of the sink on a filled topic, beside its kernel without Kafka.

    python -m tests.benchmark.sink [--rows 10000000] [--rounds 3]

The kernel decodes, sorts, writes and commits the same record batches in one thread, from memory. The sink is
measured from the first commit that is seen to the last; each round has a table of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from k2common.columnar.arrow import DECIMAL, arrow_schema
from k2common.columnar.decode import RecordDecoder
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import EncodedBatch, FetchedBatch, encode_batches, keys_of, stamp
from k2common.columnar.sorting import sorted_rows
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.files.data_files import write
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.producer import TransactionalProducer
from k2common.provision import ProvisionSettings, provision
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import STATUS, TRADES, avro_schema
from k2common.settings.load import load
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import START, first_version
from k2local.fleet import environment
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack

from tests.benchmark.fleet import _cpu, _dataset
from tests.integration.sink.messages import statuses

ROOT = Path(__file__).parents[2]
BLOCK_ROWS = 500_000
COMMIT_ROWS = 200_000
BATCH_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One round; memory in bytes, at its highest."""

    rows: int
    seconds: float
    cpu: float
    memory: int = 0


def encoded(schema_id: int) -> list[EncodedBatch]:
    """One block of generated trades as the loader publishes it."""
    schema = avro_schema(TRADES.topic.schema)
    texts = {name: pa.string() for name in ("trade_id", "conditions")}
    options = pacsv.ConvertOptions(column_types={"price": DECIMAL, "size": DECIMAL, **texts})
    read = pacsv.read_csv(io.BytesIO(trades_csv(BLOCK_ROWS, seed=1)), convert_options=options)
    columns = arrow_schema(schema)
    rows = _dataset(read.combine_chunks(), 2).select(columns.names).cast(columns).combine_chunks()
    batch = rows.to_batches()[0]
    return encode_batches(
        batch,
        RecordEncoder(schema, schema_id),
        keys=keys_of(batch, TRADES.key),
        partitions=TRADES.topic.partitions,
        timestamp_ms=int(datetime.now(UTC).timestamp() * 1000),
        max_bytes=BATCH_BYTES,
    )


async def fill(settings: ProvisionSettings, batches: Sequence[EncodedBatch], blocks: int) -> None:
    """Publish the block so often, each time with the status that names its record batches."""
    codec = await MessageCodec.open(SchemaRegistry(settings.registry), STATUS)
    async with TransactionalProducer(settings.kafka, "bench") as producer:
        for index in range(blocks):
            async with producer.transaction() as work:
                sent = [await work.send_batch(TRADES.topic.name, batch) for batch in batches]
                await work.flush()
                outputs = [
                    {
                        "topic": TRADES.topic.name,
                        "partition": batch.partition,
                        "base_offset": (await one).offset,
                        "count": batch.count,
                    }
                    for batch, one in zip(batches, sent, strict=True)
                ]
                status, _ = statuses("BENCH", outputs)
                value = codec.encode({**status, "index": index})
                await work.send(STATUS.name, key=b"BENCH", value=value, partition=0)


def kernel_round(
    settings: ProvisionSettings, batches: Sequence[EncodedBatch], blocks: int, schema_id: int
) -> Run:
    """The same work in this thread."""
    catalog = open_catalog(settings.iceberg)
    ensure_tables(catalog)
    schema = avro_schema(TRADES.topic.schema)
    decoder = RecordDecoder(arrow_schema(schema))
    packed = [stamp(b, producer_id=1, epoch=0, sequence=0, transactional=True) for b in batches]
    ends = dict.fromkeys(range(TRADES.topic.partitions), 0)
    pending: list[FetchedBatch] = []
    committed: dict[int, int | None] = dict.fromkeys(ends)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(blocks):
        for batch, payload in zip(batches, packed, strict=True):
            at = ends[batch.partition]
            pending.append(
                FetchedBatch(
                    partition=batch.partition,
                    base_offset=at,
                    count=batch.count,
                    wanted_from=at,
                    payload=memoryview(payload),
                )
            )
            ends[batch.partition] = at + batch.count
            if sum(part.count for part in pending) >= COMMIT_ROWS:
                committed = _commit(catalog, decoder, {schema_id: schema}, pending, committed, ends)
                pending = []
    if pending:
        _commit(catalog, decoder, {schema_id: schema}, pending, committed, ends)
    return Run(rows=sum(ends.values()), seconds=time.perf_counter() - started, cpu=time.process_time() - cpu)


def _commit(
    catalog: Any,
    decoder: RecordDecoder,
    schemas: dict[int, Any],
    pending: Sequence[FetchedBatch],
    expected: dict[int, int | None],
    ends: dict[int, int],
) -> dict[int, int | None]:
    rows = decoder.decode(pending, schemas).rows
    rows = rows.append_column("kafka_epoch", pa.array(np.zeros(rows.num_rows, np.int32)))
    reached = dict(ends)
    proposal = Proposal(
        table=TRADES.table,
        epoch=0,
        change=lambda head: (head or first_version(TRADES.table)).successor(
            now=START, offsets=reached, hidden={}
        ),
        expected=expected,
        files=write(sorted_rows(rows, TRADES.order), table=load_table(catalog, TRADES.table)),
    )
    commit(catalog, proposal)
    return dict(reached)


def sink_round(settings: LocalSettings, home: Path, rows: int) -> Run:
    """A sink process on an empty table; until all rows are committed."""
    environ = environment(settings.model_copy(update={"home": home}))
    provisioning = load(ProvisionSettings, environ)
    catalog = open_catalog(provisioning.iceberg)
    ensure_tables(catalog)
    with sink(environ, home) as process:
        first: tuple[int, float, float] | None = None
        while True:
            head = head_version(load_table(catalog, TRADES.table))
            done = 0 if head is None else table_rows(catalog)
            now = (done, time.perf_counter(), _cpu(process.pid))
            if done and first is None:
                first = now
            if done >= rows and first is not None:
                break
            if process.poll() is not None:
                raise SystemExit(f"the sink ended: {(home / 'sink.log').read_text('utf-8')[-2000:]}")
            time.sleep(0.2)  # between looks at the table, which another process fills
        memory = _peak(process.pid)
    return Run(rows=now[0] - first[0], seconds=now[1] - first[1], cpu=now[2] - first[2], memory=memory)


def table_rows(catalog: Any) -> int:
    """The rows of the head, from its summary."""
    snapshot = load_table(catalog, TRADES.table).current_snapshot()
    return 0 if snapshot is None else int(snapshot.summary["total-records"])


@contextmanager
def sink(environ: Any, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sink of its own."""
    variables = {**os.environ, **environ, "K2_HTTP__PORT": str(free_port(1))}
    with (home / "sink.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "iceberg_sink"], env=variables, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def report(name: str, runs: Sequence[Run]) -> None:
    """Print medians."""
    rates = [run.rows / run.seconds for run in runs]
    cpu = [run.cpu / run.rows * 1e6 for run in runs]
    memory = max(run.memory for run in runs) / 1e6
    print(
        f"{name:7} rows/s median {statistics.median(rates):,.0f} best {max(rates):,.0f} | CPU s per million "
        f"rows median {statistics.median(cpu):.2f} best {min(cpu):.2f}"
        + (f" | resident at most {memory:,.0f} MB" if memory else ""),
        flush=True,
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    blocks = -(-options.rows // BLOCK_ROWS)
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = LocalSettings(home=home / "stack", cache=cache, base_port=free_port(4))
        with LocalStack(settings):
            kernels, sinks = rounds(settings, home, blocks, options.rounds)
    report("kernel", kernels)
    report("sink", sinks)


def rounds(settings: LocalSettings, home: Path, blocks: int, number: int) -> tuple[list[Run], list[Run]]:
    """Kernel and sink in turns."""
    provisioning = load(ProvisionSettings, environment(settings))
    asyncio.run(provision(provisioning))
    schema = avro_schema(TRADES.topic.schema)
    registry = SchemaRegistry(provisioning.registry)
    schema_id = asyncio.run(registry.ensure(TRADES.topic.subject, schema))
    batches = encoded(schema_id)
    asyncio.run(fill(provisioning, batches, blocks))
    kernels: list[Run] = []
    sinks: list[Run] = []
    names = count()
    for _ in range(number):
        for runs in (kernels, sinks):
            place = home / f"round-{next(names)}"
            place.mkdir()
            other = load(ProvisionSettings, environment(settings.model_copy(update={"home": place})))
            if runs is kernels:
                runs.append(kernel_round(other, batches, blocks, schema_id))
            else:
                runs.append(sink_round(settings, place, blocks * BLOCK_ROWS))
            report("kernel" if runs is kernels else "sink", runs[-1:])
    return kernels, sinks


if __name__ == "__main__":
    main()
