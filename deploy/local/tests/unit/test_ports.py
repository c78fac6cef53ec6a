"""A port in use is named with its owner and the variable that moves it, before anything is started."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2common.errors import SetupError
from k2local import cli
from k2local.fleet import SERVICES
from k2local.listeners import is_free, port_owners
from k2local.port_check import planned_ports, require_free_ports
from k2local.ports import free_port
from k2local.process import Component, Process
from k2local.settings import LocalSettings

STORE_PORTS = 11
SERVER = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
)


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    first = free_port(4 + len(SERVICES) + STORE_PORTS)
    return LocalSettings(
        home=tmp_path / "home",
        cache=tmp_path,
        base_port=first,
        services_port=first + 4,
        store_port=first + 4 + len(SERVICES),
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_every_port_has_a_variable(settings: LocalSettings) -> None:
    ports = planned_ports(settings)
    assert len({planned.port for planned in ports}) == 4 + len(SERVICES) + STORE_PORTS
    require_free_ports(settings)


@pytest.mark.parametrize(
    ("offset", "component", "variable"),
    [
        (0, "kafka", "K2_BASE_PORT"),
        (3, "registry's management", "K2_BASE_PORT"),
        (6, "iceberg-sink", "K2_SERVICES_PORT"),
        (9, "store", "K2_STORE_PORT"),
        (19, "store", "K2_STORE_PORT"),
    ],
)
def test_a_port_in_use_is_named_at_once(
    settings: LocalSettings, offset: int, component: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = settings.base_port + offset
    # The queue of connections is full: it does not answer and has the port all the same.
    with socket.create_server(("127.0.0.1", port), backlog=0), pytest.raises(SetupError) as raised:
        cli.up(settings)
    told = f"port {port} of {component} is in use by pid {os.getpid()} ("
    assert str(raised.value).startswith(told)
    assert str(raised.value).endswith(f"set {variable} to move it")
    assert not (settings.home / "supervisor.pid").exists()
    assert capsys.readouterr().out == ""


def test_ranges_that_overlap_are_refused(settings: LocalSettings) -> None:
    with pytest.raises(SetupError, match=r"controller \(K2_BASE_PORT\) and of ingest-gateway \(K2_SE"):
        require_free_ports(settings.model_copy(update={"services_port": settings.base_port + 1}))


def test_owners_are_found_with_their_command(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    (owner,) = port_owners(port)
    assert owner.pid == os.getpid()
    assert "py" in owner.command
    assert not is_free("127.0.0.1", port)
    listener.close()
    assert is_free("127.0.0.1", port)
    assert port_owners(port) == []


def test_a_command_is_told_in_one_line(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", f"\n\n{SERVER}", str(port)]) as other:
        while is_free("127.0.0.1", port):
            assert other.poll() is None
        (owner,) = port_owners(port)
        other.kill()
    assert owner.pid == other.pid
    assert "\n" not in str(owner)


def test_the_answer_of_another_process_does_not_make_a_component_ready(tmp_path: Path) -> None:
    port = free_port()
    sleeper = Component(
        name="sleeper",
        argv=(sys.executable, "-c", "import time; time.sleep(600)"),
        port=port,
        cwd=tmp_path,
        log=tmp_path / "sleeper.log",
        ready=lambda: not is_free("127.0.0.1", port),
    )
    process = Process(sleeper)
    try:
        with subprocess.Popen([sys.executable, "-c", SERVER, str(port)]) as other:
            while is_free("127.0.0.1", port):
                assert other.poll() is None
            assert not process.is_ready
            other.kill()
    finally:
        process.kill()
