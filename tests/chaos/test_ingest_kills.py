"""Two gateways and three loaders, killed twenty times: receipts complete by themselves and balance."""

import csv
import io
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random

import httpx
import pytest
from k2local.ports import free_port
from k2local.testing import Fleet

from tests.chaos.replicas import SMALL_STEPS, Replica

UPLOADS = 5
ROWS = 200_000
KILLS = 20
HEADER = "ts_event_ns,symbol,venue,price,size,trade_id,remark\n"
REMARK = "x" * 100
START = 1_700_000_000_000_000_000


@pytest.fixture
def others(fleet: Fleet, tmp_path: Path) -> Iterator[list[Replica]]:
    services = ["ingest-gateway", "csv-loader", "csv-loader"]
    ports = free_port(len(services))
    replicas = [
        Replica(fleet, service, str(n), ports + n - 1, tmp_path, SMALL_STEPS)
        for n, service in enumerate(services, start=1)
    ]
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait_ready()
        yield replicas
    finally:
        for replica in replicas:
            replica.end()


def content(number: int) -> bytes:
    lines = (
        f"{START + n},S{n % 50},XCHAOS,{n % 1000}.{n % 100:02},{1 + n % 9},{number}-{n},{REMARK}"
        for n in range(ROWS)
    )
    return (HEADER + "\n".join(lines) + "\n").encode()


def post(urls: tuple[str, ...], number: int) -> str:
    """POST until a gateway has said that it has the file, as a client does whose connection broke."""
    data = content(number)
    deadline = time.monotonic() + 300
    attempt = 0
    while time.monotonic() < deadline:
        url = urls[attempt % len(urls)]
        attempt += 1
        try:
            answer = httpx.post(
                f"{url}/v1/uploads",
                params={"dataset": "trades", "source": f"kills-{number}"},
                content=data,
                headers={"Content-Type": "text/csv"},
                timeout=60,
            )
        except httpx.TransportError:
            time.sleep(0.2)  # the gateway was killed and is being started
            continue
        if answer.status_code in (httpx.codes.OK, httpx.codes.ACCEPTED):
            upload_id: str = answer.json()["data"]["upload_id"]
            return upload_id
        time.sleep(0.5)  # it said so: 503 while it waits for its dependencies
    raise AssertionError("no gateway took the file")


@pytest.mark.timeout(900)
def test_receipts_complete_by_themselves_whatever_is_killed(fleet: Fleet, others: list[Replica]) -> None:
    random = Random(20)
    gateway, *loaders = others
    first = fleet.url("ingest-gateway")
    victims = [lambda: fleet.kill("ingest-gateway"), gateway.kill, lambda: fleet.kill("csv-loader")]
    victims += [loader.kill for loader in loaders]
    with ThreadPoolExecutor(2 * UPLOADS) as pool:
        posts: list[Future[str]] = []

        def post_another() -> None:
            # Every file goes to both gateways in the same moment.
            for urls in ((first, gateway.url), (gateway.url, first)):
                posts.append(pool.submit(post, urls, len(posts) // 2))

        for _ in range(UPLOADS):
            post_another()
        for _ in range(KILLS):
            # A fast machine is through before the last kill: then there is more to do.
            if not unfinished((first, gateway.url), len(posts) // 2):
                post_another()
            time.sleep(random.uniform(0.1, 1.5))
            random.choice(victims)()
        uploads = [future.result() for future in posts]
    pairs = list(zip(uploads[::2], uploads[1::2], strict=True))
    assert all(one == other for one, other in pairs)
    assert len({one for one, _ in pairs}) == len(pairs)
    for replica in others:
        replica.wait_ready()
    fleet.wait_ready("ingest-gateway")

    lost = doubled = 0
    for number, (upload_id, _) in enumerate(pairs):
        receipt = fleet.receipt(upload_id, seconds=240)
        assert receipt["state"] == "committed", receipt
        counts = receipt["rows"]
        assert (counts["read"], counts["committed"], counts["rejected"]) == (ROWS, ROWS, 0)
        found = rows_of(fleet, f"kills-{number}", as_of=receipt["version"])
        expected = {f"{number}-{n}" for n in range(ROWS)}
        lost += len(expected - set(found))
        doubled += len(found) - len(set(found))
    print(f"kills {KILLS}, rows {len(pairs) * ROWS}, lost {lost}, doubled {doubled}")
    assert (lost, doubled) == (0, 0)


def unfinished(urls: tuple[str, ...], uploads: int) -> bool:
    """Whether an upload is still to come to its end, as far as any gateway can say."""
    for url in urls:
        try:
            answer = httpx.get(f"{url}/v1/uploads", timeout=10)
        except httpx.TransportError:
            continue
        if answer.status_code == httpx.codes.OK:
            states = [entry["state"] for entry in answer.json()["data"]]
            return len(states) < uploads or any(state != "committed" for state in states)
    return True


def rows_of(fleet: Fleet, source: str, *, as_of: str) -> list[str]:
    url = f"{fleet.url('query-service')}/v1/trades"
    answer = httpx.get(url, params={"source": source, "format": "csv", "as_of": as_of}, timeout=120)
    assert answer.status_code == httpx.codes.OK, answer.text
    return [row["trade_id"] for row in csv.DictReader(io.StringIO(answer.text))]
