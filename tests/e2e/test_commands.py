"""`up`, `status`, `demo`, `down` and `clean` as a user runs them, and a stack that was killed hard."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from k2local.ports import free_port

ROOT = Path(__file__).parents[2]
COMPONENTS = {
    "kafka",
    "registry",
    "ingest-gateway",
    "csv-loader",
    "iceberg-sink",
    "query-service",
    "replay-service",
}


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    ports = free_port(9)
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    variables = {
        **os.environ,
        "K2_HOME": str(tmp_path / "home"),
        "K2_CACHE": str(cache),
        "K2_BASE_PORT": str(ports),
        "K2_SERVICES_PORT": str(ports + 4),
    }
    try:
        yield variables
    finally:
        run("cli", "down", environ=variables)


def processes_of(home: str) -> list[int]:
    mark = f"K2LOCAL_HOME={home}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def run(module: str, *arguments: str, environ: Mapping[str, str]) -> str:
    argv = [sys.executable, "-m", f"k2local.{module}", *arguments]
    done = subprocess.run(argv, env=dict(environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("cli", "status", "--output", "json", environ=environ))
    return found


def uploads(environ: Mapping[str, str]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{environ['K2_SERVICES_PORT']}/v1/uploads"
    return {entry["upload_id"]: entry for entry in httpx.get(url).json()["data"]}


@pytest.mark.timeout(600)
def test_the_commands_from_nothing_to_nothing(environ: Mapping[str, str]) -> None:
    assert status(environ) == []
    assert "http://127.0.0.1" in run("cli", "up", environ=environ)
    first = status(environ)
    assert {entry["name"]: entry["state"] for entry in first} == dict.fromkeys(COMPONENTS, "ready")
    run("cli", "up", environ=environ)
    assert status(environ) == first, "up is idempotent"

    shown = run("demo", environ=environ)
    assert "all of it holds" in shown
    assert "COLUMN_COUNT" in shown
    assert {entry["name"] for entry in status(environ)} == COMPONENTS, "a fleet that was up stays up"
    known = uploads(environ)
    assert len(known) == 6
    assert {entry["state"] for entry in known.values()} == {"committed"}

    supervisor = int((Path(environ["K2_HOME"]) / "supervisor.pid").read_text())
    for pid in [supervisor, *(entry["pid"] for entry in status(environ))]:
        os.kill(pid, signal.SIGKILL)
    assert {entry["state"] for entry in status(environ)} == {"dead"}
    run("cli", "up", environ=environ)
    assert uploads(environ) == known, "what was acknowledged outlives a hard kill"

    assert "iceberg-sink" in run("cli", "logs", "iceberg-sink", environ=environ)
    run("cli", "down", environ=environ)
    assert status(environ) == []
    run("cli", "clean", environ=environ)
    assert list(Path(environ["K2_HOME"]).iterdir()) == []


UP = """
import signal, sys
from k2local.cli import main

# A shell's background job, as the tests may be one, ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(["up"]))
"""


def test_an_interrupted_up_says_so_in_a_line_and_leaves_no_process(environ: Mapping[str, str]) -> None:
    argv, pipe = [sys.executable, "-c", UP], subprocess.PIPE
    with subprocess.Popen(argv, env=dict(environ), stdout=pipe, stderr=pipe, text=True) as started:
        assert started.stdout is not None
        assert "start in the background" in started.stdout.readline()
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate()
    assert started.returncode == 130
    assert errors == "up - interrupted: nothing runs any more\n"
    assert processes_of(environ["K2_HOME"]) == []


def test_a_service_that_cannot_start_is_given_up_with_the_end_of_its_log(environ: Mapping[str, str]) -> None:
    argv = [sys.executable, "-m", "k2local.cli", "up"]
    wrong = {**environ, "K2_KAFKA__FETCH_WAIT_MILLISECONDS": "-1"}
    done = subprocess.run(argv, env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "K2_KAFKA__FETCH_WAIT_MILLISECONDS" in done.stderr
    assert "==>" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(environ["K2_HOME"]) == []
