"""A server process is waited for, told apart from a dead one, and ended by its pid."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from k2common.errors import SetupError, TransientError
from k2local.process import Component, Process, port_answers

SERVER = "import http.server, sys; http.server.test(port=int(sys.argv[1]), bind='127.0.0.1')"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def component(tmp_path: Path, free_port: int) -> Callable[..., Component]:
    def make(script: str = SERVER, *, start_seconds: float = 20) -> Component:
        return Component(
            name="server",
            argv=(sys.executable, "-c", script, str(free_port)),
            port=free_port,
            cwd=tmp_path,
            log=tmp_path / "logs" / "server.log",
            ready=lambda: port_answers("127.0.0.1", free_port),
            start_seconds=start_seconds,
        )

    return make


@pytest.fixture
def server(component: Callable[..., Component]) -> Iterator[Process]:
    process = Process(component())
    process.wait_ready()
    yield process
    process.stop()


def test_a_ready_server_is_alive_until_it_is_stopped(server: Process) -> None:
    assert server.alive
    server.stop()
    assert not server.alive
    assert not port_answers("127.0.0.1", server.component.port)


def test_a_port_in_use_is_a_setup_error(server: Process, component: Callable[..., Component]) -> None:
    with pytest.raises(SetupError, match="already in use"):
        Process(component())


def test_a_server_that_ends_is_named_with_its_log(component: Callable[..., Component]) -> None:
    process = Process(component("raise SystemExit(3)"))
    with pytest.raises(SetupError, match=r"server ended with code 3; see .*server\.log"):
        process.wait_ready()


def test_a_server_that_never_gets_ready_is_transient(component: Callable[..., Component]) -> None:
    process = Process(component("import signal; signal.pause()", start_seconds=0))
    try:
        with pytest.raises(TransientError, match="not ready"):
            process.wait_ready()
    finally:
        process.kill()
