"""The process behind `up`: it keeps the stack and the fleet running until it is told to stop.

What dies is started again with a back-off, as a container platform would. The state of every component is in
`state.json` of the home folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from k2common.errors import K2Error, SetupError

from k2local.fleet import environment, fleet_components
from k2local.jars import install, locked_artifacts
from k2local.kafka import kafka_component
from k2local.process import Component, Process
from k2local.registry import registry_component
from k2local.restart import Backoff
from k2local.settings import LocalSettings
from k2local.store import store_component

TICK_SECONDS = 0.1
OWNER = "K2LOCAL_HOME"
"""Marks our processes in their environment: what a killed supervisor leaves can be told from others."""

StateName = Literal["starting", "ready", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One component as `status` shows it."""

    name: str
    pid: int | None
    port: int
    state: StateName
    deaths: int = 0
    """How often it has ended in a row, each time soon after its start."""


def state_path(settings: LocalSettings) -> Path:
    """Where the states are kept."""
    return settings.home / "state.json"


def read_states(settings: LocalSettings) -> Sequence[State]:
    """The components of the last supervisor; empty when there was none."""
    try:
        return [State(**entry) for entry in json.loads(state_path(settings).read_text("utf-8"))]
    except FileNotFoundError:
        return []


def is_ours(pid: int, settings: LocalSettings) -> bool:
    """Whether the process lives and was started for this home folder."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{OWNER}={settings.home}".encode() in environ


class _Kept:
    """A component and the process that runs it now."""

    def __init__(self, component: Component) -> None:
        self.component = component
        self.process: Process | None = None
        self.state: StateName = "starting"
        self.backoff = Backoff()
        self.started = 0.0

    def tend(self, now: float) -> None:
        """Start, look after or restart the process."""
        if self.process is not None and self.process.alive:
            if self.state == "starting" and self.process.is_ready:
                self.state = "ready"
            return
        if self.process is not None:
            self.backoff = self.backoff.died(started=self.started, now=now)
            self.process, self.state = None, "dead"
        if now >= self.backoff.not_before:
            self._start(now)

    def _start(self, now: float) -> None:
        try:
            self.process = Process(self.component)
        except SetupError as error:
            # Somebody has taken the port meanwhile; it may be given back.
            print(f"supervisor - {error}", file=sys.stderr, flush=True)
            self.backoff = self.backoff.died(started=now, now=now)
            return
        self.started, self.state = now, "starting"


class Supervisor:
    """Runs the stack, then what provisions it, then the fleet."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        self._kept: list[_Kept] = []
        self._stopping = False
        self._written: list[State] = []

    def run(self) -> None:
        """Return after SIGTERM or SIGINT, when all has been stopped."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        os.environ[OWNER] = str(self._settings.home)
        try:
            install(self._settings.cache, locked_artifacts())
            self._keep([kafka_component(self._settings), registry_component(self._settings)])
            if self._settings.store_port is not None:
                self._keep([store_component(self._settings)])
            self._until_ready()
            if not self._stopping:
                self._provision()
                self._keep(fleet_components(self._settings))
            while not self._stopping:
                self._tend()
                time.sleep(TICK_SECONDS)
        finally:
            self._end()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _keep(self, components: Sequence[Component]) -> None:
        self._kept += [_Kept(component) for component in components]

    def _until_ready(self) -> None:
        while not self._stopping and any(kept.state != "ready" for kept in self._kept):
            self._tend()
            time.sleep(TICK_SECONDS)

    def _provision(self) -> None:
        # Its own process, as an init container would be; the services read what it made.
        (self._settings.home / "warehouse").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "k2common.provision"],
            env={**os.environ, **environment(self._settings)},
            check=False,
        )
        if done.returncode:
            raise K2Error(f"provision ended with code {done.returncode}; see the supervisor's log")

    def _tend(self) -> None:
        for kept in self._kept:
            kept.tend(time.monotonic())
        states = [
            State(
                name=kept.component.name,
                pid=None if kept.process is None else kept.process.pid,
                port=kept.component.port,
                state=kept.state,
                deaths=kept.backoff.deaths,
            )
            for kept in self._kept
        ]
        if states != self._written:
            self._written = states
            _write(state_path(self._settings), states)

    def _end(self) -> None:
        # Producers first: what they have in hand still finds the stack.
        for kept in reversed(self._kept):
            if kept.process is not None:
                kept.process.stop()
        state_path(self._settings).unlink(missing_ok=True)


def _write(path: Path, states: Sequence[State]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps([asdict(state) for state in states]), "utf-8")
    new.replace(path)


if __name__ == "__main__":
    try:
        Supervisor(LocalSettings.from_environ(os.environ)).run()
    except K2Error as error:
        sys.exit(f"supervisor - {error}")
