"""Replicas beside a fleet's, killed and started again under their names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from k2local.fleet import SERVICES, environment
from k2local.probes import answers_ok
from k2local.testing import Fleet

READY_SECONDS = 90
SMALL_STEPS = {
    # Many small steps, so that kills fall between and into them; dead members are soon missed.
    "K2_GATEWAY__CHUNKS_PER_TRANSACTION": "1",
    "K2_LOADER__CHUNKS_PER_TRANSACTION": "1",
    "K2_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
    # A dependency that hangs is soon noticed.
    "K2_KAFKA__REQUEST_TIMEOUT_SECONDS": "5",
    # Few live snapshots, so that those of earlier versions are soon expired.
    "K2_ICEBERG__LIVE_SNAPSHOTS": "3",
    "K2_SINK__IDLE_COMMIT_SECONDS": "2",
}
"""Settings of a fleet whose processes are killed."""


@dataclass
class Replica:
    """One more process of a service; it keeps its name, port and spool over its deaths."""

    fleet: Fleet
    service: str
    name: str
    port: int
    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it."""
        environ = {
            **os.environ,
            **environment(self.fleet.settings),
            **self.environ,
            "K2_HTTP__PORT": str(self.port),
            "K2_SERVICE__REPLICA": self.name,
            "K2_GATEWAY__SPOOL": str(self.home / f"spool-{self.name}"),
        }
        argv = [sys.executable, "-m", SERVICES[self.service]]
        with (self.home / f"{self.service}-{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(argv, env=environ, stderr=log, cwd=self.home)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, the signal's negative number when one ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, and started again at once."""
        self.end()
        self.start()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_ready(self) -> None:
        """Return when it says that it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if answers_ok(f"{self.url}/readyz"):
                return
            time.sleep(0.1)  # between looks at another process
        raise AssertionError(f"{self.service} {self.name} is not ready")
