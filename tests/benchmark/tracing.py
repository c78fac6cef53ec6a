"""What spans cost on the hot paths: CPU time of loader and sink with them removed, off, passed on, and on.

    python -m tests.benchmark.tracing [--rounds 5] [--chunks 150] [--commits 60]

`removed` has the tracing calls replaced by nothing; `off` is how a service runs without a collector; `passed`
is the same with a traceparent in each message; `on` exports to a collector on this machine. Each is a process
of its own, and the rounds are interleaved. The calls alone are timed too, since they are far below what the
CPU seconds of two runs differ by.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import csv_loader.partition as loading
import iceberg_sink.ending as ending
import pyarrow as pa
from csv_loader.metrics import LoaderMetrics
from csv_loader.partition import PartitionLoader, Tools
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.change import SinkChange
from iceberg_sink.ending import Applied, commit_span, tell_ended
from iceberg_sink.visibility import arrivals
from k2common.columnar.encode import RecordEncoder
from k2common.domain.progress import Progress
from k2common.iceberg.catalog import open_catalog
from k2common.iceberg.commit import Proposal, commit
from k2common.iceberg.expiry import Retention
from k2common.iceberg.files import write
from k2common.iceberg.tables import ensure_tables
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.observability.export import spans_exported
from k2common.observability.logging import configure
from k2common.observability.tracing import TRACEPARENT, Carried, tracer
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.runtime.instruments import Instruments
from k2common.schemas.datasets import CHUNKS, REJECTS, TRADES, avro_schema
from k2common.settings.load import load
from k2common.settings.service import ObservabilitySettings
from k2common.testing.collector import collecting
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import folder_catalog, trade_rows
from prometheus_client import CollectorRegistry

from tests.integration.loader.chunks import chunk

VARIANTS = ("removed", "off", "passed", "on")
TRACE: Carried = ((TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
CHUNK_BYTES = 512 * 1024
COMMIT_ROWS, COMMIT_UPLOADS = 20_000, 16
CALLS = 20_000
spans = tracer(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """CPU milliseconds per chunk and per commit, and microseconds of the tracing calls of each alone."""

    chunk_ms: float
    commit_ms: float
    chunk_us: float
    commit_us: float


class _Nothing:
    """A span that does nothing."""

    def set_attribute(self, *_: Any) -> None:
        return


@contextmanager
def _nothing(*_: Any, **__: Any) -> Iterator[_Nothing]:
    yield _Nothing()


def remove() -> None:
    """Take the tracing calls out of loader and sink."""
    for module in (loading, ending):
        module.joined = _nothing  # type: ignore[assignment]
        module.inject = lambda: ()  # type: ignore[assignment]
    ending.begun = _nothing  # type: ignore[assignment]


def chunk_of_trades(codec: MessageCodec) -> bytes:
    """One chunk of generated trades, as a message."""
    header, _, text = trades_csv(10_000, seed=1).partition(b"\n")
    payload = text[: text.rindex(b"\n", 0, CHUNK_BYTES) + 1]
    known = chunk("01JZZZZZZZZZZZZZZZZZZZZZZZ", "trades")
    upload = UploadSpec.from_avro(known["upload"])
    layout = layout_named("k2", dataset="trades")
    return codec.encode(
        {
            **known,
            "upload": {**upload.to_avro(), "layout_json": layout.canonical_json},
            "header": header.decode(),
            "length": len(payload),
            "payload": pa.compress(payload, codec="zstd", asbytes=True),
            "failure": None,
        }
    )


async def loaded(count: int, headers: Carried) -> float:
    """CPU milliseconds per chunk of the loader's work on it, without Kafka."""
    environ = {
        "K2_KAFKA__BOOTSTRAP_SERVERS": "nowhere:1",
        "K2_REGISTRY__URL": "http://nowhere:1",
        "K2_ICEBERG__CATALOG_URI": "sqlite://",
        "K2_ICEBERG__WAREHOUSE": "file:///nowhere",
        "K2_HTTP__PORT": "1",
    }
    settings = load(CsvLoaderSettings, environ)
    codec = MessageCodec(None, schema=avro_schema(CHUNKS.schema), schema_id=1)  # type: ignore[arg-type]
    blocking = Blocking(workers=2)
    encoders = {
        dataset.name: RecordEncoder(avro_schema(dataset.topic.schema), 1) for dataset in (TRADES, REJECTS)
    }
    unused: Any = codec
    tools = Tools(
        settings=settings,
        encoders=Encoders(by_dataset=encoders, batch_bytes=settings.loader.batch_bytes),
        claims=unused,
        chunks=codec,
        statuses=unused,
        positions=unused,
        instruments=Instruments(None, blocking=blocking),  # type: ignore[arg-type]
        blocking=blocking,
        clock=SystemClock(),
        metrics=LoaderMetrics(CollectorRegistry()),
    )
    loader = PartitionLoader(0, tools=tools)
    record = SimpleNamespace(value=chunk_of_trades(codec), headers=headers)
    work = loader._processed  # noqa: SLF001 - the work on one chunk, which nothing else begins
    assert (await work(record)).rows_accepted > 5_000
    started = time.process_time()
    for _ in range(count):
        await work(record)
    spent = time.process_time() - started
    blocking.close()
    return spent / count * 1000


def committed(count: int, trace: Carried, home: Path) -> float:
    """CPU milliseconds per commit of rows of several uploads, files included."""
    catalog = open_catalog(folder_catalog(home))
    ensure_tables(catalog, [TRADES])
    table = catalog.load_table(TRADES.table)
    retention = Retention(live=30, recorded=lambda _: True)
    expected: int | None = None
    spent = 0.0
    each = COMMIT_ROWS // COMMIT_UPLOADS
    for number in range(count + 1):
        at = expected or 0
        parts = [trade_rows(at + n * each, each, upload=f"U{number}-{n}") for n in range(COMMIT_UPLOADS)]
        rows, end = pa.concat_tables(parts), at + COMMIT_UPLOADS * each
        progress = {
            f"U{number}-{n}": Progress(
                upload_id=f"U{number}-{n}",
                dataset="trades",
                chunks=0,
                ends={(TRADES.topic.name, 0): (0, at + (n + 1) * each)},
            )
            for n in range(COMMIT_UPLOADS)
        }
        started = time.process_time()
        change = Applied(
            SinkChange(
                dataset=TRADES,
                epoch=0,
                now=datetime.now(UTC),
                offsets={0: end},
                arrived=arrivals(rows),
                progress=progress,
            )
        )
        proposal = Proposal(
            table=TRADES.table,
            epoch=0,
            change=change,
            expected={0: expected},
            files=write(rows, table=table),
        )
        with commit_span(TRADES.table, rows=rows.num_rows):
            result = commit(catalog, proposal, retention=retention)
            tell_ended(change, result.version, trace_of=lambda _: trace)
        if number:  # the first one makes what all need
            spent += time.process_time() - started
        expected = end
    return spent / count * 1000


def called(headers: Carried) -> float:
    """CPU microseconds of the calls that the loader makes for one chunk, alone."""
    begin, carry = loading.joined, loading.inject
    started = time.process_time()
    for index in range(CALLS):
        with begin(spans, "parse chunk", headers, upload_id="U", index=index) as span:
            carry()
            span.set_attribute("k2.rows", 1)
    return (time.process_time() - started) / CALLS * 1e6


def told(trace: Carried) -> float:
    """CPU microseconds of what the sink does for one commit, alone, the lines of the log left out."""
    uploads = {
        f"U{n}": Progress(
            upload_id=f"U{n}", dataset="trades", chunks=0, ends={(TRADES.topic.name, 0): (0, 1)}
        )
        for n in range(COMMIT_UPLOADS)
    }
    change = Applied(
        SinkChange(dataset=TRADES, epoch=0, now=datetime.now(UTC), offsets={0: 1}, progress=uploads)
    )
    version = change(None)
    started = time.process_time()
    for _ in range(CALLS // COMMIT_UPLOADS):
        with commit_span(TRADES.table, rows=1):
            tell_ended(change, version, trace_of=lambda _: trace)
    return (time.process_time() - started) / (CALLS // COMMIT_UPLOADS) * 1e6


def measure(variant: str, options: argparse.Namespace) -> Run:
    """One round of one variant, in this process."""
    settings = ObservabilitySettings(log_level="error", otlp_endpoint=options.endpoint)
    configure(settings, service="benchmark", replica="0")
    if variant == "removed":
        remove()
    headers = TRACE if variant in ("passed", "on") else ()
    with (
        tempfile.TemporaryDirectory() as home,
        spans_exported(settings, service="benchmark", replica="0"),
    ):
        return Run(
            chunk_ms=asyncio.run(loaded(options.chunks, headers)),
            commit_ms=committed(options.commits, headers, Path(home)),
            chunk_us=called(headers),
            commit_us=told(headers),
        )


def in_child(variant: str, options: argparse.Namespace, endpoint: str) -> Run:
    """The same in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmark.tracing", "--variant", variant]
    argv += ["--chunks", str(options.chunks), "--commits", str(options.commits)]
    argv += ["--endpoint", endpoint] if variant == "on" else []
    ran = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600)
    return Run(**json.loads(ran.stdout))


def report(runs: Mapping[str, Sequence[Run]]) -> str:
    """Medians of CPU time, and ratios to `removed` of the same round."""
    lines = ["| spans | ms per chunk | ratio | calls alone, µs | ms per commit | ratio | calls alone, µs |"]
    lines.append("|---|---|---|---|---|---|---|")

    def median(name: str, of: Sequence[Run]) -> float:
        return statistics.median(getattr(run, name) for run in of)

    def ratio(name: str, of: Sequence[Run]) -> float:
        pairs = zip(of, runs["removed"], strict=True)
        return statistics.median(getattr(a, name) / getattr(b, name) for a, b in pairs)

    for variant, of in runs.items():
        figures = [
            f"{median('chunk_ms', of):.2f} | {ratio('chunk_ms', of):.3f} | {median('chunk_us', of):.0f}",
            f"{median('commit_ms', of):.1f} | {ratio('commit_ms', of):.3f} | {median('commit_us', of):.0f}",
        ]
        lines.append(f"| {variant} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=150)
    parser.add_argument("--commits", type=int, default=60)
    parser.add_argument("--variant", choices=VARIANTS, help="one variant in this process, for the rounds")
    parser.add_argument("--endpoint")
    options = parser.parse_args()
    if options.variant:
        run = measure(options.variant, options)
        sys.stdout.write(json.dumps({name: getattr(run, name) for name in Run.__dataclass_fields__}))
        return
    runs: dict[str, list[Run]] = {variant: [] for variant in VARIANTS}
    with collecting() as collector:
        for number in range(options.rounds):
            # Another order each time, so that what the machine does meanwhile falls on all alike.
            order = random.Random(number).sample(VARIANTS, len(VARIANTS))
            for variant in order:
                runs[variant].append(in_child(variant, options, collector.endpoint))
        received = sum(len(body) for _, body in collector.received)
    sys.stdout.write(f"{report(runs)}\n\nThe collector received {received:,} bytes.\n")


if __name__ == "__main__":
    main()
