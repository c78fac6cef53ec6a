"""Two replicas of each ingest service share the work: one upload per content, each row once, a clean end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from k2local.fleet import SERVICES, environment
from k2local.ports import free_port
from k2local.testing import Fleet

HEADER = "ts_event_ns,symbol,venue,price,size\n"
START = 1_700_000_000_000_000_000
DOUBLED = ("ingest-gateway", "csv-loader", "iceberg-sink")


def content(source: str, rows: int) -> bytes:
    lines = (f"{START + n},{source}{n % 7},XTST,1.{n % 1000:03},1" for n in range(rows))
    return (HEADER + "\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def second(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """More replicas beside the fleet's; the address of the second gateway."""
    home = tmp_path_factory.mktemp("second")
    ports = free_port(len(DOUBLED))
    processes = []
    for port, name in enumerate(DOUBLED, start=ports):
        environ = {
            **os.environ,
            **environment(fleet.settings),
            "K2_HTTP__PORT": str(port),
            "K2_SERVICE__REPLICA": "1",
            "K2_GATEWAY__SPOOL": str(home / "spool"),
        }
        argv = [sys.executable, "-m", SERVICES[name]]
        with (home / f"{name}.log").open("wb") as log:
            processes.append(subprocess.Popen(argv, env=environ, stderr=log, cwd=home))
    try:
        for port in range(ports, ports + len(DOUBLED)):
            wait_ready(f"http://127.0.0.1:{port}/readyz")
        yield f"http://127.0.0.1:{ports}"
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(30) for process in processes] == [0] * len(DOUBLED), logs(home)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{url} is not ready"
        time.sleep(0.1)


def logs(home: Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in home.glob("*.log"))


def test_the_same_file_at_both_gateways_in_one_moment_is_one_upload(fleet: Fleet, second: str) -> None:
    source = f"R{uuid4().hex[:8].upper()}"
    body = content(source, 30_000)

    def post(url: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/uploads", params={"dataset": "trades"}, content=body, timeout=60)

    with ThreadPoolExecutor(4) as pool:
        urls = [fleet.url("ingest-gateway"), second] * 2
        answers = list(pool.map(post, urls))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    (upload,) = {answer.json()["data"]["upload_id"] for answer in answers}
    for url in (fleet.url("ingest-gateway"), second):
        wait = {"wait": "committed", "timeout": 60}
        receipt = httpx.get(f"{url}/v1/uploads/{upload}", params=wait, timeout=90).json()["data"]
        assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", 30_000)
    assert lines(fleet, source) == list(range(2, 30_002))


@pytest.mark.parametrize("turn", range(5))
def test_many_small_files_at_both_gateways_at_once(fleet: Fleet, second: str, turn: int) -> None:
    files = [content(f"R{uuid4().hex[:8].upper()}", 5 + turn) for _ in range(6)]

    def post(number: int) -> tuple[int, str]:
        url = [fleet.url("ingest-gateway"), second][number % 2]
        answer = httpx.post(
            f"{url}/v1/uploads", params={"dataset": "trades"}, content=files[number // 2], timeout=60
        )
        return answer.status_code, answer.json()["data"]["upload_id"]

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(post, range(12)))
    for first, other in zip(answers[::2], answers[1::2], strict=True):
        assert sorted((first[0], other[0])) == [200, 202]
        assert first[1] == other[1]
        receipt = fleet.receipt(first[1])
        assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", 5 + turn)


def test_uploads_at_both_gateways_are_each_whole(fleet: Fleet, second: str) -> None:
    sources = [f"R{uuid4().hex[:8].upper()}" for _ in range(8)]

    def load(number: int) -> str:
        url = [fleet.url("ingest-gateway"), second][number % 2]
        body = content(sources[number], 2_000 + number)
        posted = httpx.post(f"{url}/v1/uploads", params={"dataset": "trades"}, content=body, timeout=60)
        assert posted.status_code == 202
        return str(fleet.receipt(posted.json()["data"]["upload_id"])["state"])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(load, range(8))) == {"committed"}
    for number, source in enumerate(sources):
        assert lines(fleet, source) == list(range(2, 2_002 + number))


def lines(fleet: Fleet, source: str) -> list[int]:
    symbols = ",".join(f"{source}{n}" for n in range(7))
    answer = fleet.get("query-service", "/v1/trades", symbols=symbols, format="ndjson")
    return sorted(json.loads(line)["line"] for line in answer.text.splitlines())
