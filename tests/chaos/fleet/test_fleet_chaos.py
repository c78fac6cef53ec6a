"""Two replicas of every service under load, while everything around them goes wrong."""

from __future__ import annotations

import csv
import io
import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

import httpx
import pytest
from k2common.testing.kafka_proxy import ApiKey, KafkaProxy
from k2local.fleet import SERVICES
from k2local.ports import free_port
from k2local.settings import HOST
from k2local.testing import Fleet, running_fleet

from tests.chaos.fleet.faults import (
    EventLoopThread,
    SilentClients,
    delay_request,
    flip_bit,
    freeze_broker,
    kill_component,
    repair_files,
    send_strays,
)
from tests.chaos.fleet.load import Upload, Uploader
from tests.chaos.fleet.observations import Observations
from tests.chaos.fleet.readers import Reader, ReceiptReader
from tests.chaos.replicas import Replica

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
"""Sixty and more by `./task chaos:fleet`."""
READY_SECONDS = 120
FINAL_SECONDS = 180
RECEIPT_SECONDS = 90
"""Less than a request of the test may take: a receipt that is not final is compared as it is."""
VISIBLE_SECONDS = 60
"""A reader sees a commit or a repair seconds after it; much more than that on a slow machine."""
UPLOADERS = 2
DAMAGED_SECONDS = 3
ENVIRON = {
    # Many small steps, so that kills fall between and into them; dead members are soon missed.
    "K2_GATEWAY__CHUNKS_PER_TRANSACTION": "2",
    "K2_LOADER__CHUNKS_PER_TRANSACTION": "2",
    "K2_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
    "K2_ICEBERG__LIVE_SNAPSHOTS": "3",
    # Silent clients are given up within the run.
    "K2_HTTP__BODY_SECONDS": "3",
    "K2_HTTP__READER_SECONDS": "3",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled:
    """A fleet, one more replica of each service, and the proxy through which those reach the broker."""

    fleet: Fleet
    replicas: Sequence[Replica]
    loop: EventLoopThread
    proxy: KafkaProxy

    def urls(self, service: str) -> tuple[str, str]:
        """The addresses of both replicas."""
        (other,) = [replica for replica in self.replicas if replica.service == service]
        return self.fleet.url(service), other.url

    def killers(self) -> list[Callable[[], None]]:
        """What ends each process of a service."""
        mine = [lambda name=name: kill_component(self.fleet, name) for name in SERVICES]
        return [*mine, *(replica.kill for replica in self.replicas)]

    def wait_ready(self) -> None:
        """Return when every process of the fleet is ready."""
        for name in ("kafka", "registry", *SERVICES):
            self.fleet.wait_ready(name, seconds=READY_SECONDS)
        for replica in self.replicas:
            replica.wait_ready()


@pytest.fixture
def doubled(tmp_path: Path) -> Iterator[Doubled]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    loop = EventLoopThread()
    with running_fleet(tmp_path / "fleet", cache, environ=ENVIRON) as fleet:
        ports = free_port(len(SERVICES) + 1)
        proxy = KafkaProxy((HOST, fleet.settings.kafka_port), port=ports + len(SERVICES))
        loop.run(proxy.__aenter__())
        environ = {**ENVIRON, "K2_KAFKA__BOOTSTRAP_SERVERS": proxy.bootstrap_servers}
        replicas = [
            Replica(fleet, service, "1", ports + n, tmp_path, environ) for n, service in enumerate(SERVICES)
        ]
        started: list[Replica] = []
        try:
            for replica in replicas:
                replica.start()
                started.append(replica)
            yield Doubled(fleet=fleet, replicas=replicas, loop=loop, proxy=proxy)
        finally:
            for replica in started:
                replica.end()
            loop.run(proxy.__aexit__(None, None, None))
            loop.close()


@pytest.mark.fleet_chaos
@pytest.mark.timeout(3_600)
def test_nothing_is_lost_doubled_or_wrong_whatever_fails(doubled: Doubled) -> None:
    doubled.wait_ready()
    observations, stop = Observations(), threading.Event()
    gateways, queries = doubled.urls("ingest-gateway"), doubled.urls("query-service")
    uploaders = [Uploader(n, gateways[:: -1 if n % 2 else 1], observations, stop) for n in range(UPLOADERS)]
    readers = [Reader(n, queries, uploaders, observations, stop) for n in range(2)]
    clients = [*uploaders, *readers, ReceiptReader(gateways, uploaders, observations, stop)]
    silent = SilentClients()
    faults = Faults(doubled, uploaders, silent)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(client.run) for client in clients]
        try:
            inflict(faults, doubled.killers())
        finally:
            stop.set()
            silent.close()
        for one in running:
            one.result(FINAL_SECONDS)
    doubled.wait_ready()
    faults.repair_all()
    uploads = [upload for uploader in uploaders for upload in uploader.uploads]
    report = verify(doubled, uploads, observations)
    compared = sum(reader.compared for reader in readers)
    print(
        f"faults {dict(faults.counts)}, uploads {len(uploads)}, answers repeated {compared}, "
        f"statuses {dict(observations.statuses)}, {report}"
    )
    assert observations.violations == []
    assert compared > 0


class Faults:
    """Every fault that is no kill of a service; each method inflicts one once and counts it."""

    def __init__(self, doubled: Doubled, uploaders: Sequence[Uploader], silent: SilentClients) -> None:
        self.counts: Counter[str] = Counter()
        self._random = Random(60)
        self._doubled = doubled
        self._uploaders = uploaders
        self._silent = silent

    def all(self) -> list[Callable[[], None]]:
        """Each of them."""
        return [
            lambda: self.delay(ApiKey.END_TXN),
            self.send_strays,
            self.be_silent,
            self.freeze_broker,
            self.flip_bit,
            lambda: self.delay(ApiKey.PRODUCE),
            self.kill_broker,
        ]

    def kill_broker(self) -> None:
        kill_component(self._doubled.fleet, "kafka")
        self.counts["broker killed"] += 1

    def freeze_broker(self) -> None:
        freeze_broker(self._doubled.fleet)
        self.counts["broker frozen"] += 1

    def delay(self, api_key: ApiKey) -> None:
        self.counts[f"{api_key.name} late"] += delay_request(self._doubled.loop, self._doubled.proxy, api_key)

    def send_strays(self) -> None:
        known = [upload for uploader in self._uploaders for upload in tuple(uploader.uploads)]
        if known:
            sent = send_strays(self._doubled.loop, self._doubled.fleet, known[0].upload_id)
            self.counts["stray messages"] += sent

    def be_silent(self) -> None:
        for url in self._doubled.urls("ingest-gateway"):
            self._silent.post_nothing(url, 40)
        for url in self._doubled.urls("query-service"):
            self._silent.read_nothing(url, "/v1/trades?format=ndjson", 8)
        self.counts["silent clients"] += 96

    def flip_bit(self) -> None:
        """Flip one bit of a data file: until it is repaired from the archive readers are refused."""
        folder = self._doubled.fleet.settings.home / "warehouse" / "market" / "trades" / "data"
        deadline = time.monotonic() + FINAL_SECONDS
        while not (files := sorted(folder.rglob("*.parquet"))):
            assert time.monotonic() < deadline, "no file was ever written"
            time.sleep(0.5)
        flip_bit(self._random.choice(files), self._random)
        self.counts["bit flips"] += 1
        time.sleep(DAMAGED_SECONDS)
        self.repair_now()

    def repair_now(self) -> bool:
        """Ask a sink for a repair, which a kill may end; returns whether no lost file is left."""
        found = repair_files(self._random.choice(self._doubled.urls("iceberg-sink")))
        if found is not None:
            self.counts["files repaired"] += found["repaired"]
        return found is not None and not found["refused"]

    def repair_all(self) -> None:
        """Return once no file is lost."""
        deadline = time.monotonic() + FINAL_SECONDS
        while not self.repair_now():
            assert time.monotonic() < deadline, "a damaged file cannot be repaired"
            time.sleep(1)


def inflict(faults: Faults, killers: Sequence[Callable[[], None]]) -> None:
    """Kill services `KILLS` times, with every other fault in between."""
    random = Random(15)
    others = cycle(faults.all())
    pause = max(1, KILLS // len(faults.all()))
    for number in range(KILLS):
        time.sleep(random.uniform(0.2, 1.5))
        random.choice(killers)()
        faults.counts["kill"] += 1
        if number % pause == pause - 1:
            next(others)()


def verify(doubled: Doubled, uploads: Sequence[Upload], observations: Observations) -> str:
    """Compare every receipt, reject report and row with what was sent; returns the sums."""
    for upload in uploads:
        verify_receipt(doubled, upload, observations)
    rows = final_rows(doubled, uploads)
    lost = twice = 0
    for upload in uploads:
        found = rows.pop(upload.upload_id, Counter())
        expected = visible_lines(upload)
        lost += len(expected - found.keys())
        twice += found.total() - len(found)
        if found.keys() - expected:
            observations.violation(f"{upload.upload_id} shows rows that it must not show")
    if rows:
        observations.violation(f"rows of unknown uploads: {list(rows)}")
    if lost or twice:
        observations.violation(f"lost {lost}, doubled {twice}")
    for term, value in unaccounted(doubled).items():
        if value:
            observations.violation(f"{term} is {value}")
    return f"lost {lost}, doubled {twice}"


def verify_receipt(doubled: Doubled, upload: Upload, observations: Observations) -> None:
    """Compare the receipt, once it is final, and the reject report with what was sent."""
    receipt = doubled.fleet.receipt(upload.upload_id, seconds=RECEIPT_SECONDS)
    expected_state = "retracted" if upload.is_retracted else "committed"
    if receipt["state"] != expected_state:
        observations.violation(f"{upload.upload_id}: {receipt['state']}, not {expected_state}")
    counts = receipt["rows"]
    sent = (len(upload.accepted_lines), len(upload.rejected_lines))
    if (counts["committed"], counts["rejected"]) != sent:
        observations.violation(f"{upload.upload_id}: {counts}, sent {sent}")
    if rejected_lines(doubled, upload) != Counter(upload.rejected_lines):
        observations.violation(f"{upload.upload_id}: other rejects than were sent")


def visible_lines(upload: Upload) -> frozenset[int]:
    """The lines of the upload that readers see once all is over."""
    return upload.accepted_lines if upload.is_visible_at_the_end else frozenset()


def final_rows(doubled: Doubled, uploads: Sequence[Upload]) -> dict[str, Counter[int]]:
    """The lines of every visible row by upload, once the readers see what they must, or when time is up."""
    expected = {upload.upload_id: Counter(lines) for upload in uploads if (lines := visible_lines(upload))}
    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        found = rows_by_upload(doubled)
        if found is not None and (found == expected or time.monotonic() > deadline):
            return found
        assert time.monotonic() < deadline, "the readers see a damaged file, though it was repaired"
        time.sleep(0.5)


def rows_by_upload(doubled: Doubled) -> dict[str, Counter[int]] | None:
    """The lines of every visible row, by upload; None while readers still know a repaired file as damaged."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for dataset in ("trades", "quotes"):
        answer = doubled.fleet.get("query-service", f"/v1/{dataset}", format="csv", fields="upload_id,line")
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            assert answer.json()["code"] == "DATA_DAMAGED", answer.text
            return None
        assert answer.status_code == httpx.codes.OK, answer.text
        for row in csv.DictReader(io.StringIO(answer.text)):
            found[row["upload_id"]][int(row["line"])] += 1
    return found


def rejected_lines(doubled: Doubled, upload: Upload) -> Counter[int]:
    """The lines of the upload's reject report."""
    path = f"/v1/uploads/{upload.upload_id}/rejects"
    answer = doubled.fleet.get("ingest-gateway", path, format="csv")
    assert answer.status_code == httpx.codes.OK, answer.text
    return Counter(int(row["line"]) for row in csv.DictReader(io.StringIO(answer.text)))


def unaccounted(doubled: Doubled) -> dict[str, float]:
    """The series `k2_rows_unaccounted` of both gateways once they have caught up."""
    found = {}
    for url in doubled.urls("ingest-gateway"):
        text = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text
        for labels, value in re.findall(r"^k2_rows_unaccounted(\{.*\}) (\S+)$", text, re.MULTILINE):
            found[f"{url} k2_rows_unaccounted{labels}"] = float(value)
    return found
