"""What spans cost on the hot paths: CPU time of loader and sink with them removed, off, passed on, and on.

    python -m tests.benchmark.tracing [--rounds 5] [--blocks 8]

`removed` has the tracing calls replaced by nothing; `off` is how a service runs without a collector; `passed`
is the same with a traceparent in each message; `on` exports to a collector on this machine. The variants take
turns within one process, block by block, and a round is a process; `on` has one of its own, since an SDK
stays for good, and so a `removed` of its own to be compared with. The calls alone are timed too, since they
are far below what two blocks differ by.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import csv_loader.partition as loading
import iceberg_sink.commits.commit_events as ending
import pyarrow as pa
from csv_loader.metrics import LoaderMetrics
from csv_loader.partition import LoaderDependencies, PartitionLoader
from csv_loader.processing import Encoders
from csv_loader.settings import CsvLoaderSettings
from iceberg_sink.commits.commit_events import AppliedChange, commit_span, tell_ended
from iceberg_sink.commits.version_change import SinkChange
from iceberg_sink.uploads.visibility import arrivals
from k2common.columnar.encode import RecordEncoder
from k2common.domain.progress import Progress
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.kafka.boundary import UndecodableMessages
from k2common.layouts.catalogue import layout_named
from k2common.layouts.upload import UploadSpec
from k2common.observability.export import spans_exported
from k2common.observability.logging import configure
from k2common.observability.tracing import TRACEPARENT, Carried, tracer
from k2common.query.instruments import Instruments
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import CHUNKS, REJECTS, TRADES, avro_schema
from k2common.settings.load import load
from k2common.settings.service import ObservabilitySettings
from k2common.testing.collector import collecting
from k2common.testing.generator import trades_csv
from k2common.testing.iceberg import folder_catalog, trade_rows
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from tests.integration.loader.chunks import chunk

PROCESSES = (("removed", "off", "passed"), ("removed", "on"))
TRACE: Carried = ((TRACEPARENT, b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
CHUNK_BYTES = 512 * 1024
COMMIT_ROWS, COMMIT_UPLOADS = 20_000, 16
BLOCK_CHUNKS, BLOCK_COMMITS = 20, 6
CALLS = 20_000
spans = tracer(__name__)


Figures = dict[str, dict[str, list[float]]]
"""By what is measured and variant, CPU milliseconds (`chunk`, `commit`) or microseconds (`… calls`)."""


class _Nothing:
    """A span that does nothing."""

    def set_attribute(self, *_: Any) -> None:
        return


REPLACED = [(module, part) for module in (loading, ending) for part in ("joined", "inject")]
REPLACED.append((ending, "begun"))


def _no_headers() -> Carried:
    return ()


@contextmanager
def _nothing(*_: Any, **__: Any) -> Iterator[_Nothing]:
    yield _Nothing()


@contextmanager
def variant(name: str) -> Iterator[Carried]:
    """The code as the variant has it, and what its messages carry; spans are sent before the end."""
    kept = [(module, part, getattr(module, part)) for module, part in REPLACED]
    if name == "removed":
        for module, part, _ in kept:
            setattr(module, part, _no_headers if part == "inject" else _nothing)
    try:
        yield TRACE if name in ("passed", "on") else ()
        if isinstance(provider := trace.get_tracer_provider(), TracerProvider):
            provider.force_flush()
    finally:
        for module, part, real in kept:
            setattr(module, part, real)


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


class Chunks:
    """The loader's work on chunks, without Kafka."""

    def __init__(self) -> None:
        environ = {
            "K2_KAFKA__BOOTSTRAP_SERVERS": "nowhere:1",
            "K2_REGISTRY__URL": "http://nowhere:1",
            "K2_ICEBERG__CATALOG_URI": "sqlite://",
            "K2_ICEBERG__WAREHOUSE": "file:///nowhere",
            "K2_HTTP__PORT": "1",
        }
        settings = load(CsvLoaderSettings, environ)
        codec: Any = MessageCodec(None, schema=avro_schema(CHUNKS.schema), schema_id=1)  # type: ignore[arg-type]
        blocking = Blocking(workers=2)
        encoders = {d.name: RecordEncoder(avro_schema(d.topic.schema), 1) for d in (TRADES, REJECTS)}
        tools = LoaderDependencies(
            settings=settings,
            encoders=Encoders(by_dataset=encoders, batch_bytes=settings.loader.batch_bytes),
            claims=codec,
            chunks=codec,
            statuses=codec,
            positions=codec,
            undecodable=UndecodableMessages(settings.kafka, owner="bench-undecodable", count=lambda _: None),
            instruments=Instruments(None, blocking=blocking),  # type: ignore[arg-type]
            blocking=blocking,
            clock=SystemClock(),
            metrics=LoaderMetrics(CollectorRegistry()),
        )
        self._loader = PartitionLoader(0, tools=tools)
        self._value = chunk_of_trades(codec)

    async def work(self, headers: Carried) -> None:
        """One block."""
        record = SimpleNamespace(value=self._value, headers=headers, partition=0, offset=0)
        for _ in range(BLOCK_CHUNKS):
            chunk = await self._loader._chunk(record)  # noqa: SLF001 - the work on one chunk
            done = await self._loader._processed(record, chunk)  # noqa: SLF001
            assert done.rows_accepted > 5_000


class Commits:
    """Commits of rows of several uploads, files included."""

    def __init__(self, home: Path) -> None:
        self._catalog = open_catalog(folder_catalog(home))
        ensure_tables(self._catalog, [TRADES])
        self._table = self._catalog.load_table(TRADES.table)
        self._retention = Retention(live=10, recorded=lambda _: True)
        each = COMMIT_ROWS // COMMIT_UPLOADS
        self._rows = pa.concat_tables(
            [trade_rows(n * each, each, upload=f"U{n}") for n in range(COMMIT_UPLOADS)]
        )
        self._at: int | None = None

    def work(self, carries: Carried) -> None:
        """One block."""
        for _ in range(BLOCK_COMMITS):
            end = (self._at or 0) + COMMIT_ROWS
            change = change_of(self._rows, end)
            proposal = Proposal(
                table=TRADES.table,
                epoch=0,
                change=change,
                expected={0: self._at},
                files=write(self._rows, table=self._table),
            )
            with commit_span(TRADES.table, rows=COMMIT_ROWS):
                result = commit(self._catalog, proposal, retention=self._retention)
                tell_ended(change, result.version, trace_of=lambda _: carries)
            self._at = end


def change_of(rows: pa.Table, end: int) -> AppliedChange:
    """The change that brings the rows and ends their uploads."""
    ends = {(TRADES.topic.name, 0): (0, end)}
    uploads = [f"U{n}" for n in range(COMMIT_UPLOADS)]
    return AppliedChange(
        SinkChange(
            dataset=TRADES,
            epoch=0,
            now=datetime.now(UTC),
            offsets={0: end},
            arrived=arrivals(rows),
            progress={u: Progress(upload_id=u, dataset="trades", chunks=0, ends=ends) for u in uploads},
        )
    )


def chunk_calls(headers: Carried) -> None:
    """The calls that the loader makes for a chunk, alone."""
    for index in range(CALLS):
        with loading.joined(spans, "parse chunk", headers, upload_id="U", index=index) as span:
            loading.inject()
            span.set_attribute("k2.rows", 1)


def commit_calls(carries: Carried) -> None:
    """What the sink does for a commit's spans, alone; the lines of the log are left out."""
    change = change_of(trade_rows(0, 1), 1)
    version = change(None)
    for _ in range(CALLS // COMMIT_UPLOADS):
        with commit_span(TRADES.table, rows=1):
            tell_ended(change, version, trace_of=lambda _: carries)


async def measured(variants: Sequence[str], blocks: int, home: Path) -> Figures:
    """The variants interleaved, block by block; the first block of each is not counted."""
    found: Figures = defaultdict(lambda: defaultdict(list))
    chunks, commits = Chunks(), Commits(home)
    for block in range(blocks + 1):
        # Another one first each time.
        for name in variants[block % len(variants) :] + variants[: block % len(variants)]:
            with taken(found["chunk"][name], BLOCK_CHUNKS, 1e3), variant(name) as headers:
                await chunks.work(headers)
            with taken(found["commit"][name], BLOCK_COMMITS, 1e3), variant(name) as headers:
                commits.work(headers)
    for name in variants:
        with taken(found["chunk calls"][name], CALLS, 1e6), variant(name) as headers:
            chunk_calls(headers)
        with taken(found["commit calls"][name], CALLS // COMMIT_UPLOADS, 1e6), variant(name) as headers:
            commit_calls(headers)
    return {what: {name: values[1:] or values for name, values in of.items()} for what, of in found.items()}


@contextmanager
def taken(values: list[float], units: int, scale: float) -> Iterator[None]:
    """Add the process's CPU time per unit."""
    started = time.process_time()
    yield
    values.append((time.process_time() - started) / units * scale)


def in_child(variants: Sequence[str], blocks: int, endpoint: str) -> Figures:
    """One round of the variants in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmark.tracing", "--variants", *variants, "--blocks", str(blocks)]
    argv += ["--endpoint", endpoint] if "on" in variants else []
    ran = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600)
    figures: Figures = json.loads(ran.stdout)
    return figures


def report(rounds: Sequence[Figures]) -> str:
    """Medians of CPU time, and of the ratios to `removed` of the same process."""
    names = ("removed", "off", "passed", "on")
    lines = ["| spans | ms per chunk | ratio | calls alone, µs | ms per commit | ratio | calls alone, µs |"]
    lines.append("|---|---|---|---|---|---|---|")

    def middle(what: str, name: str) -> float:
        return statistics.median(value for one in rounds for value in one[what].get(name, ()))

    def ratio(what: str, name: str) -> float:
        having = [one[what] for one in rounds if name in one[what]]
        return statistics.median(statistics.median(o[name]) / statistics.median(o["removed"]) for o in having)

    for name in names:
        cells = [
            f"{middle(what, name):.2f} | {ratio(what, name):.3f} | {middle(f'{what} calls', name):.0f}"
            for what in ("chunk", "commit")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def child(options: argparse.Namespace) -> None:
    settings = ObservabilitySettings(log_level="error", otlp_endpoint=options.endpoint)
    configure(settings, service="benchmark", replica="0")
    with (
        tempfile.TemporaryDirectory() as home,
        spans_exported(settings, service="benchmark", replica="0"),
    ):
        sys.stdout.write(json.dumps(asyncio.run(measured(options.variants, options.blocks, Path(home)))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--variants", nargs="+", help="these in this process, for a round")
    parser.add_argument("--endpoint")
    options = parser.parse_args()
    if options.variants:
        child(options)
        return
    with collecting() as collector:
        rounds = [
            in_child(variants, options.blocks, collector.endpoint)
            for _ in range(options.rounds)
            for variants in PROCESSES
        ]
        received = sum(len(body) for _, body in collector.received)
    sys.stdout.write(f"{report(rounds)}\n\nThe collector received {received:,} bytes.\n")


if __name__ == "__main__":
    main()
