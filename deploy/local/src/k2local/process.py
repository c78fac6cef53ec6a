"""One server process: started, waited for until it is ready, stopped by its pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from k2common.errors import SetupError, TransientError

from k2local.listeners import is_free, port_owners

POLL_SECONDS = 0.05


def port_answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """How to run one server and how to know that it is ready."""

    name: str
    argv: Sequence[str]
    port: int
    cwd: Path
    log: Path
    ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 90.0
    stop_seconds: float = 20.0


class Process:
    """A running component. `stop` ends it within its grace period, by SIGKILL if it must."""

    def __init__(self, component: Component) -> None:
        if not is_free("127.0.0.1", component.port):
            owners = ", ".join(map(str, port_owners(component.port))) or "a process of another user"
            raise SetupError(f"{component.name}: port {component.port} is already in use by {owners}")
        self.component = component
        component.log.parent.mkdir(parents=True, exist_ok=True)
        with component.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                component.argv,
                cwd=component.cwd,
                env={**os.environ, **component.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether the component answers and this process, or a child of it, listens on its port."""
        return self.component.ready() and self._listens()

    def _listens(self) -> bool:
        owners = port_owners(self.component.port)
        # Where there is no /proc nobody is known to listen; the answer has to do.
        return not owners or any(_session(owner.pid) == self.pid for owner in owners)

    def wait_ready(self) -> None:
        """Return when the component is ready.

        Raises SetupError when it ended, TransientError when it was not ready in time.
        """
        component = self.component
        deadline = time.monotonic() + component.start_seconds
        while not self.is_ready:
            if not self.alive:
                code = self._process.returncode
                raise SetupError(f"{component.name} ended with code {code}; see {component.log}")
            if time.monotonic() > deadline:
                raise TransientError(f"{component.name} was not ready after {component.start_seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to end and wait for it."""
        if not self.alive:
            return
        self._process.terminate()
        try:
            self._process.wait(self.component.stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
