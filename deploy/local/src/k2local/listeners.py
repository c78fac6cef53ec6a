"""Who listens on a port of this machine, as far as /proc shows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
LISTEN = "0A"
COMMAND_CHARACTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that listens on a port."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})"


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now; a listener that does not answer has its port too."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def port_owners(port: int) -> list[Owner]:
    """Return the processes that listen on the port; those that /proc hides from this user are left out."""
    inodes = _listening_inodes(port)
    return [Owner(pid=pid, command=_command(pid)) for pid in _holders(inodes)] if inodes else []


def _listening_inodes(port: int) -> set[str]:
    wanted = f"{port:04X}"
    found: set[str] = set()
    for table in TABLES:
        for fields in _rows(Path(table)):
            if fields[3] == LISTEN and fields[1].rpartition(":")[2] == wanted:
                found.add(f"socket:[{fields[9]}]")
    return found


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text("ascii").splitlines()[1:]]
    except OSError:
        return []


def _holders(inodes: set[str]) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.fspath(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                yield int(process.name)
        except OSError:
            # Another user's process, or one that has ended.
            continue


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "unknown"
    # One line, whatever program text is among the words.
    return " ".join(b" ".join(words).decode("utf-8", "replace").split())[:COMMAND_CHARACTERS]
