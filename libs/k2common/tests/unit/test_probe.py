"""A probe says yes to 200 alone, and no in time."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest
from k2common import probe


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, listening.getsockname()[1]


def answer(listening: socket.socket, text: bytes) -> Thread:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            assert connection.recv(1000).startswith(b"GET /readyz ")
            connection.sendall(text)

    thread = Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"", False),
    ],
)
def test_only_200_is_ready(server: tuple[socket.socket, int], text: bytes, expected: bool) -> None:
    thread = answer(server[0], text)
    assert probe.ready(server[1]) is expected
    thread.join()


def test_silence_and_nobody_are_not_ready(
    server: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.1)
    assert not probe.ready(server[1])
    assert not probe.ready(9)


def test_the_exit_code_tells(server: tuple[socket.socket, int]) -> None:
    thread = answer(server[0], b"HTTP/1.1 200 OK\r\n\r\n")
    argv = [sys.executable, "-m", "k2common.probe"]
    assert subprocess.run(argv, env={"K2_HTTP__PORT": str(server[1])}, check=False).returncode == 0
    thread.join()
    assert subprocess.run(argv, env={"K2_HTTP__PORT": "9"}, check=False).returncode == 1
