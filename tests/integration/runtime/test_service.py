"""A service process: real signals, real exit codes."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from k2local.ports import free_port

PROGRAM = """
import asyncio
import gc
from contextlib import asynccontextmanager
from k2common.http.app import create_app
from k2common.http.access.hosts import HostGuard
from pathlib import Path
from k2common.errors import SetupError, TransientError
from k2common.observability.logging import get_logger
from k2common.runtime.service import Service, ServiceBlocks, run_service

KIND = {kind!r}

@asynccontextmanager
async def build(settings, runtime):
    if KIND == "waiting" and not Path(__file__).with_name("dependency").exists():
        raise TransientError("the registry does not answer")
    async def loop():
        if KIND.startswith("misconfigured"):
            raise SetupError("no such topic")
        if KIND == "crashing":
            raise ZeroDivisionError
        if KIND == "hanging":
            await asyncio.Event().wait()
        seen = {{"collected": len(gc.get_objects()), "kept": gc.get_freeze_count()}}
        await runtime.stop.wait()
        get_logger("loop").info("flushed", **seen, threshold=gc.get_threshold())
    async def failing_when_ended():
        try:
            await runtime.stop.wait()
        finally:
            raise ZeroDivisionError
    app = create_app([], readiness=runtime.readiness, metrics=runtime.metrics)
    others = [failing_when_ended] if KIND == "misconfigured and more" else []
    yield Service(app=app, loops=[loop, *others])
    get_logger("build").info("closed")

run_service(ServiceBlocks, build, name="example", guard=HostGuard)
"""


def environment(port: int) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    return {**kept, "K2_HTTP__PORT": str(port), "K2_SERVICE__DRAIN_SECONDS": "2"}


def start(tmp_path: Path, kind: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    program = tmp_path / "service.py"
    program.write_text(PROGRAM.format(kind=kind))
    return subprocess.Popen([sys.executable, program], env=environ, stderr=subprocess.PIPE, text=True)


def await_live(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("the service did not come up")


def drained(tmp_path: Path, port: int) -> list[dict[str, Any]]:
    """The log of a good service from its start to its end by a signal."""
    with start(tmp_path, "good", environment(port)) as process:
        await_live(port, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    return [json.loads(line) for line in errors.splitlines()]


def test_a_term_signal_drains_and_ends_with_0(tmp_path: Path) -> None:
    port = free_port()
    lines = drained(tmp_path, port)
    assert [line["event"] for line in lines] == ["settings", "flushed", "closed", "stopped"]
    assert lines[0]["settings"]["http"].items() >= {"host": "127.0.0.1", "port": port}.items()
    assert {line["service"] for line in lines} == {"example"}


def test_full_collections_are_rare_and_look_at_nothing_that_the_start_made(tmp_path: Path) -> None:
    (flushed,) = [line for line in drained(tmp_path, free_port()) if line["event"] == "flushed"]
    assert flushed["kept"] > 10_000 > 10 * flushed["collected"]
    assert flushed["threshold"] == [*gc.get_threshold()[:2], 10 * gc.get_threshold()[2]]


@pytest.mark.parametrize(("kind", "code"), [("misconfigured", 78), ("crashing", 1)])
def test_a_failing_loop_ends_the_process(tmp_path: Path, kind: str, code: int) -> None:
    with start(tmp_path, kind, environment(free_port())) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert ("no such topic" if code == 78 else "ZeroDivisionError") in errors


def test_a_fault_of_the_configuration_decides_the_exit_code_and_hides_no_other(tmp_path: Path) -> None:
    with start(tmp_path, "misconfigured and more", environment(free_port())) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 78, errors
    assert "no such topic" in errors
    assert "ZeroDivisionError" in errors


def test_a_drain_that_takes_too_long_ends_with_75(tmp_path: Path) -> None:
    port = free_port()
    with start(tmp_path, "hanging", environment(port)) as process:
        await_live(port, process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "drain deadline" in errors


def test_a_service_waits_for_its_dependencies_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with start(tmp_path, "waiting", environment(port)) as process:
        await_live(port, process)
        deadline = time.monotonic() + 30
        while "registry" not in (waiting := httpx.get(f"{url}/readyz")).text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert waiting.status_code == 503
        assert waiting.json() == {"ready": False, "blocked_by": {"start": "the registry does not answer"}}
        refused = httpx.get(f"{url}/v1/uploads")
        assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
        assert refused.headers["Retry-After"] == "2"
        strange = httpx.get(f"{url}/metrics", headers={"Host": "evil.example"})
        assert (strange.status_code, strange.json()["code"]) == (403, "HOST_NOT_ALLOWED")
        (tmp_path / "dependency").touch()
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx.get(f"{url}/metrics").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in errors.splitlines()][-3:] == [
        "flushed",
        "closed",
        "stopped",
    ]


def test_a_service_that_waits_can_be_stopped(tmp_path: Path) -> None:
    port = free_port()
    with start(tmp_path, "waiting", environment(port)) as process:
        await_live(port, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_misspelt_variable_stops_the_start_with_its_name(tmp_path: Path) -> None:
    with start(tmp_path, "good", {**environment(1), "K2_HTTP__PROT": "1"}) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 78
    assert errors == "example: K2_HTTP__PROT is no setting of this service; did you mean K2_HTTP__PORT?\n"
