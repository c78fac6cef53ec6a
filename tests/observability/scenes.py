"""What happens in the observed run: all that a metric can tell of, once, with a little load beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.testing.generator import ASX_ID, asx_files, quotes_csv, trades_csv
from k2local.prometheus import Prometheus
from k2local.testing import Fleet

from tests.integration.sink.messages import write

START = 1_772_400_000_000_000_000
HEADER = "ts_event_ns,symbol,venue,price,size,sequence"
IDEMPOTENCY_KEY = "observed-key-1"
GAP, FILTERED, REFUSED = "OBSERVEDGAP", "OBSERVEDFILTERED", "OBSERVEDREFUSED"
SPAN: Mapping[str, Any] = {"symbols": "SYM000,SYM001", "source": "a"}
PAIRS = """
SELECT count(*) AS pairs
FROM (SELECT price, size FROM trades WHERE source = 'a' LIMIT 3000) a
JOIN (SELECT price, size FROM trades WHERE source = 'a' LIMIT 3000) b ON a.price * b.size > b.price * a.size
"""
ANSWERED = (200, 404, 429, 503)
"""Nothing is there to be asked before the first commit, and a crowd keeps others out."""
BUSY = (
    "sum(k2_spool_used_bytes) > 0",
    "k2_uploads_queued > 0",
    "sum(k2_chunks_waiting) > 0",
    "sum(k2_chunks_waiting_seconds) > 0",
    "sum(k2_records_waiting) > 0",
    "sum(k2_records_waiting_seconds) > 0",
    "sum(k2_records_held) > 0",
    "k2_uploads_unfinished > 0",
    "k2_uploads_unfinished_oldest_seconds > 0",
    'k2_uploads_hidden{reason="loading"} > 0',
)
CROWDED = (
    'k2_queries_running{job="query-service"} > 0',
    'k2_queries_waiting{job="query-service"} > 0',
    'k2_streams_running{job="query-service"} > 0',
    "k2_statements_running > 0",
    "k2_statements_waiting > 0",
    "sum(k2_queries_refused_total) > 0",
)
WAITING = (
    'k2_service_blocked{job="csv-loader"} > 0',
    'k2_works_retried_total{job="csv-loader", work="start"} > 0',
)
MAINTAINED = (
    "sum(k2_files_compacted_total) > 0",
    "sum(k2_snapshots_expired_total) > 0",
    "sum(k2_files_collected_total) > 0",
    "sum(k2_rows_purged_total) > 0",
)
LOAD_SECONDS = 0.7
BROKEN = "01BROKEN000000000000000000"
"""An upload of records that cannot be decoded."""
POLL_SECONDS = 0.3
WAIT_SECONDS = 120


@dataclass
class Told:
    """What only a log or a receipt may name, never a label."""

    uploads: list[str] = field(default_factory=list)
    symbols: set[str] = field(default_factory=lambda: {GAP, FILTERED, REFUSED, "BHP", "SYM000", "SYM001"})
    others: set[str] = field(default_factory=lambda: {IDEMPOTENCY_KEY, f"{ASX_ID}.csv", "observed"})


class Scenes:
    """Plays the scenes on a fleet; each returns when what it did is to be seen, by users and by `watch`."""

    def __init__(self, fleet: Fleet, watch: Prometheus) -> None:
        self.fleet = fleet
        self.told = Told()
        self._watch = watch

    def play(self) -> None:
        """All scenes, with uploads and queries beside them."""
        with self._load():
            self.uploads()
            self.rejects()
            self.gap()
            self.dead_letter()
            self.queries()
            self.replay()
            self.busy()
            self.crowd()
            self.killed_sink()
            self.held_back()
            self.maintenance()

    def upload(self, content: bytes, **parameters: Any) -> dict[str, Any]:
        """The final receipt."""
        receipt = self.fleet.upload(content, **parameters)
        self.told.uploads.append(receipt["upload_id"])
        return receipt

    def uploads(self) -> None:
        """Files of several datasets, one of them again, one corrected and one taken back."""
        files = asx_files(5_000, seed=1)
        self.upload(files["company_info.csv"], layout="asx-company-info")
        self.upload(files[f"trades/{ASX_ID}.csv"], layout="asx-trades", filename=f"{ASX_ID}.csv")
        self.upload(files[f"quotes/{ASX_ID}.csv"], layout="asx-quotes", filename=f"{ASX_ID}.csv")
        self.upload(trades_csv(100_000, seed=2), dataset="trades", source="a")
        self.upload(quotes_csv(100_000, seed=2), dataset="quotes", source="a")
        again = self.fleet.post(quotes_csv(100_000, seed=2), dataset="quotes", source="a")
        assert again.status_code == httpx.codes.OK, "the same file is one upload"
        keyed = self.fleet.post(
            trades_csv(2_000, seed=3),
            headers={"Idempotency-Key": IDEMPOTENCY_KEY},
            dataset="trades",
            source="b",
        )
        corrected: str = keyed.json()["data"]["upload_id"]
        self.told.uploads.append(corrected)
        assert self.fleet.receipt(corrected)["state"] == "committed"
        self.upload(trades_csv(2_000, seed=4), dataset="trades", source="c", replaces=corrected)
        retracted = self.upload(trades_csv(3_000, seed=5), dataset="trades", source="d")["upload_id"]
        self._call("ingest-gateway", f"/v1/uploads/{retracted}/retract")
        self._until(lambda: self.fleet.receipt(retracted, seconds=1)["state"] == "retracted")

    def rejects(self) -> None:
        """Bad rows of several codes, rows that a layout filters, and an upload that fails by its own wish."""
        good = f"{START},{REFUSED},XTST,1.5,1,1"
        bad = [
            f"{START},{REFUSED},XTST,1,3",
            f"{START},{REFUSED},XTST,x,1,2",
            f"{START},{REFUSED},XTST,,1,3",
            f"17,{REFUSED},XTST,1,1,4",
            f"{START},{REFUSED},XTST,1e30,1,5",
        ]
        content = "\n".join([HEADER, good, *bad, ""]).encode()
        receipt = self.upload(content, dataset="trades")
        assert receipt["rows"]["rejected"] == len(bad), receipt
        failed = self.upload(content + good.encode(), dataset="trades", on_error="abort")
        assert failed["state"] == "failed", failed
        header = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
        rows = [
            f"{START},{START},0,1,1,{action},A,0,1000000000,{n + 1},0,0,{n},{FILTERED}"
            for n, action in enumerate("TATR")
        ]
        content = "\n".join([f"{header}ts_in_delta,sequence,symbol", *rows, ""]).encode()
        receipt = self.upload(content, layout="databento-trades", venue="XTST")
        assert receipt["rows"]["filtered"] == 2, receipt
        dry = self.fleet.post(content, layout="databento-trades", venue="XTST", dry_run="true")
        assert dry.is_success, dry.text
        assert self.fleet.post(b"\x00\x01", dataset="trades").is_client_error

    def gap(self) -> None:
        """Cut lines of a sequence, some of which come later."""
        numbers = [*range(1, 100), *range(103, 200), *range(5_000, 5_100)]
        self.upload(_numbered(numbers), dataset="trades")
        self._until(lambda: len(self._gaps()) == 2)
        self.upload(_numbered([100, 101, 102]), dataset="trades")
        self._until(lambda: len(self._gaps()) == 1)

    def _gaps(self) -> list[Any]:
        found: list[Any] = self.fleet.data(
            "query-service",
            "/v1/gaps",
            symbols=GAP,
            start=str(START - 1),
            end=str(START + 10_000),
            causes="sequence_break",
        )
        return found

    def dead_letter(self) -> None:
        """Messages that are no records, among those of the uploads."""
        local = self.fleet.settings
        kafka = KafkaSettings(bootstrap_servers=local.bootstrap_servers)
        asyncio.run(write(kafka, RegistrySettings(url=local.registry_url), BROKEN, [b"no record"] * 3))
        self._until(lambda: len(self.fleet.data("iceberg-sink", "/v1/dead-letters")) == 3)
        (letter, *_) = self.fleet.data("iceberg-sink", "/v1/dead-letters")
        place = {"partition": letter["partition"], "offset": letter["offset"]}
        redriven = {"topic": letter["topic"], "offsets": [place]}

        def is_redriven() -> bool:
            answer = self._call("iceberg-sink", "/v1/dead-letters/redrive", json=redriven)
            return bool(answer["counts"]["redriven"] == 1)

        # Not before the commit that settles their upload.
        self._until(is_redriven)

    def queries(self) -> None:
        """Each kind of query, and some that are refused."""
        for path, parameters in (
            ("/v1/trades", {**SPAN, "limit": 1_000}),
            ("/v1/trades", {**SPAN, "format": "arrow"}),
            ("/v1/quotes", {**SPAN, "format": "csv"}),
            ("/v1/quotes", {**SPAN, "format": "ndjson"}),
            ("/v1/trades/latest", SPAN),
            ("/v1/bars", {**SPAN, "timeframe": "5Min"}),
            ("/v1/joins/trades-quotes", {**SPAN, "limit": 100}),
            ("/v1/summary/SYM000/2026-03-02", {"source": "a", "venue": "XTST"}),
            ("/v1/datasets", {}),
            ("/v1/symbols", {}),
            ("/v1/versions", {"table": "market.trades"}),
        ):
            answer = self.fleet.get("query-service", path, **parameters)
            assert answer.is_success, (path, answer.text)
        statement = "SELECT symbol, sum(price * size) AS money FROM trades GROUP BY symbol ORDER BY symbol"
        self._call("query-service", "/v1/sql", json={"sql": statement, "symbols": ["SYM000"]})
        assert self.fleet.call("POST", "query-service", "/v1/sql", json={"sql": "SELEC"}).is_client_error
        assert self.fleet.get("query-service", "/v1/trades", symbol="A").is_client_error
        assert self.fleet.get("query-service", "/v1/nothing").is_client_error

    def replay(self) -> None:
        """A range streamed to its end, and one whose reader leaves in the middle."""
        body = {"datasets": ["trades", "quotes"], "symbols": ["*"], "source": "a"}
        session = self._call("replay-service", "/v1/replays", json=body)["session_id"]
        with self._streamed(session) as lines:
            first = next(lines)
            self._seen(["k2_replays_streamed > 0"])
            assert "replay_completed" in [first, *lines][-1]
        with self._streamed(session) as lines:
            next(lines)

    @contextmanager
    def _streamed(self, session: str) -> Iterator[Iterator[str]]:
        url = f"{self.fleet.url('replay-service')}/v1/replays/{session}/stream"
        headers = self.fleet.headers
        with httpx.stream("GET", url, headers=headers, timeout=WAIT_SECONDS) as answer:
            yield (line for line in answer.iter_lines() if line)

    def busy(self) -> None:
        """So many large uploads at once that something waits at each hop, and one that comes slowly."""
        seeds = count(10)
        content = trades_csv(1_000, seed=7)

        def slowly() -> Iterator[bytes]:
            yield content[:1_000]
            self._seen(["k2_uploads_receiving > 0"])
            yield content[1_000:]

        self._posted(slowly())

        def together() -> None:
            files = [trades_csv(100_000, seed=next(seeds)) for _ in range(4)]
            for upload_id in list(pool.map(self._posted, files)):
                assert self.fleet.receipt(upload_id)["state"] == "committed"

        with ThreadPoolExecutor(4) as pool:
            self._seen(BUSY, together)

    def crowd(self) -> None:
        """So many queries at once that some wait and some are refused."""
        asking = [
            lambda: self.fleet.call("POST", "query-service", "/v1/sql", json={"sql": PAIRS}),
            lambda: self.fleet.get("query-service", "/v1/bars", **SPAN, timeframe="1Min"),
            lambda: self.fleet.get("query-service", "/v1/trades", source="a", format="csv"),
        ]
        enough = threading.Event()

        def ask(number: int) -> None:
            while not enough.is_set():
                # A stream that has begun is cut off instead of refused.
                with suppress(httpx.RemoteProtocolError):
                    answer = asking[number % len(asking)]()
                    assert answer.status_code in ANSWERED, answer.text

        with ThreadPoolExecutor(12) as pool:
            clients = [pool.submit(ask, number) for number in range(12)]
            try:
                self._seen(CROWDED)
            finally:
                enough.set()
            for client in clients:
                client.result()

    def killed_sink(self) -> None:
        """The sink dies in the middle of an upload, is started again and commits it."""
        upload_id = self._posted(trades_csv(200_000, seed=6))
        self.fleet.kill("iceberg-sink")
        self._seen(['up{job="iceberg-sink"} == 0'])
        self.fleet.wait_ready("iceberg-sink", seconds=WAIT_SECONDS)
        assert self.fleet.receipt(upload_id)["state"] == "committed"

    def held_back(self) -> None:
        """The loader is started again while the registry hangs, waits for it and then loads."""
        with self.fleet.hanging("registry"):
            self.fleet.kill("csv-loader")
            upload_id = self._posted(trades_csv(2_000, seed=8))
            self._seen(WAITING)
        assert self.fleet.receipt(upload_id)["state"] == "committed"

    def maintenance(self) -> None:
        """Each task of maintenance on the largest table; rows that were taken back are deleted for good."""
        for task in ("compact", "purge", "expire", "collect"):
            path = f"/v1/maintenance/{task}"
            table = {"table": "market.trades"}
            self._until(
                lambda path=path, table=table: (
                    self.fleet.call("POST", "iceberg-sink", path, params=table).is_success
                )
            )
        self._seen(MAINTAINED)

    @contextmanager
    def _load(self) -> Iterator[None]:
        stop = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            tasks = [pool.submit(self._uploading, stop), pool.submit(self._asking, stop)]
            try:
                yield
            finally:
                stop.set()
            for task in tasks:
                task.result()

    def _uploading(self, stop: threading.Event) -> None:
        seed = 1_000
        while not stop.wait(LOAD_SECONDS):
            self._posted(trades_csv(500, seed=seed), source="load")
            seed += 1

    def _asking(self, stop: threading.Event) -> None:
        while not stop.wait(LOAD_SECONDS):
            answer = self.fleet.get(
                "query-service", "/v1/trades", symbols="SYM000", source="load", sort="desc", limit=100
            )
            assert answer.status_code in ANSWERED, answer.text

    def _posted(self, content: bytes | Iterator[bytes], source: str = "e") -> str:
        answer = self.fleet.call(
            "POST",
            "ingest-gateway",
            "/v1/uploads",
            params={"dataset": "trades", "source": source},
            content=content,
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        upload_id: str = answer.json()["data"]["upload_id"]
        self.told.uploads.append(upload_id)
        return upload_id

    def _seen(self, expressions: Sequence[str], act: Callable[[], None] = lambda: None) -> None:
        """Act again and again until each expression has held at some moment of the run."""
        deadline = time.monotonic() + WAIT_SECONDS
        while unseen := [expression for expression in expressions if not self._was(expression)]:
            assert time.monotonic() < deadline, f"never seen: {unseen}"
            act()
            time.sleep(POLL_SECONDS)

    def _was(self, expression: str) -> bool:
        return bool(self._watch.query(f"count_over_time(({expression})[10m:1s])"))

    def _call(self, service: str, path: str, **options: Any) -> Any:
        answer = self.fleet.call("POST", service, path, **options)
        assert answer.is_success, (path, answer.text)
        return answer.json()["data"]

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it did not come to that in time"
            time.sleep(POLL_SECONDS)


def _numbered(numbers: Sequence[int]) -> bytes:
    lines = [f"{START + n},{GAP},XTST,100.5,1,{n}" for n in numbers]
    return "\n".join([HEADER, *lines, ""]).encode()
