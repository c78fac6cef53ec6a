"""`up`, `down`, `status`, `logs`, `clean`: the embedded stack and the fleet on this machine."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from k2common.errors import K2Error, SetupError, TransientError

from k2local.fleet import SERVICES
from k2local.jars import install, locked_artifacts
from k2local.port_check import require_free_ports
from k2local.settings import HOST, LocalSettings
from k2local.startup import log_path, wait_until_ready
from k2local.supervisor import OWNER, State, is_ours, read_states, state_path

DOWN_SECONDS = 120
POLL_SECONDS = 0.1
EXIT_INTERRUPTED = 130


NOTHING_RUNS = "nothing runs any more"
FLEET_RUNS = "the fleet runs on in the background, ./task down stops it"


class Interrupted(K2Error):
    """Ctrl-C, with what runs on after it."""


def pid_path(settings: LocalSettings) -> Path:
    """Where the supervisor's pid is kept."""
    return settings.home / "supervisor.pid"


def supervisor_pid(settings: LocalSettings) -> int | None:
    """The supervisor's pid while it lives."""
    try:
        pid = int(pid_path(settings).read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return None
    return pid if is_ours(pid, settings) else None


def up(settings: LocalSettings) -> None:
    """Bring everything up and return when all is ready; what runs already stays as it is.

    Raises SetupError for a port in use and when the supervisor ends, TransientError when the components no
    longer make progress, Interrupted after Ctrl-C. What was started here is stopped again then.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    running = supervisor_pid(settings)
    try:
        pid = _start(settings) if running is None else running
        states = wait_until_ready(settings, pid, is_running=lambda: supervisor_pid(settings) == pid)
    except (KeyboardInterrupt, K2Error) as error:
        if running is None:
            _stop_started(settings)
        if isinstance(error, K2Error):
            raise
        raise Interrupted(NOTHING_RUNS if running is None else FLEET_RUNS) from None
    ports = {state.name: state.port for state in states}
    for name in SERVICES:
        print(f"{name:16} http://{HOST}:{ports[name]}")


def _stop_started(settings: LocalSettings) -> None:
    # Nothing is there to be stopped after a refusal.
    if supervisor_pid(settings) is not None or state_path(settings).exists():
        down(settings)


def _start(settings: LocalSettings) -> int:
    end_leftovers(settings)
    require_free_ports(settings)
    install(settings.cache, locked_artifacts())
    return _start_supervisor(settings)


def down(settings: LocalSettings) -> None:
    """Stop everything cleanly; nothing to stop is fine.

    Raises TransientError when the supervisor does not end in time.
    """
    pid = supervisor_pid(settings)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_SECONDS
        while is_ours(pid, settings):
            if time.monotonic() > deadline:
                raise TransientError(f"the supervisor {pid} has not ended after {DOWN_SECONDS} s")
            time.sleep(POLL_SECONDS)
    end_leftovers(settings)
    pid_path(settings).unlink(missing_ok=True)
    print("down - all is stopped")


def end_leftovers(settings: LocalSettings) -> None:
    """End the components that a killed supervisor has left behind."""
    for state in read_states(settings):
        if state.pid is not None and is_ours(state.pid, settings):
            os.kill(state.pid, signal.SIGKILL)
            while is_ours(state.pid, settings):
                time.sleep(POLL_SECONDS)
    state_path(settings).unlink(missing_ok=True)


def status(settings: LocalSettings) -> Sequence[State]:
    """Every component; `dead` when its process is not there."""
    return [
        state if state.pid is not None and is_ours(state.pid, settings) else _dead(state)
        for state in read_states(settings)
    ]


def logs(settings: LocalSettings, names: Sequence[str]) -> None:
    """Print the last lines of the logs, of all components when none is named.

    Raises SetupError for a component that has no log.
    """
    paths = [log_path(settings, name) for name in names] or sorted((settings.home / "logs").glob("*.log"))
    for path in paths:
        if not path.is_file():
            raise SetupError(f"there is no log {path}")
        print(f"==> {path} <==")
        print("\n".join(path.read_text("utf-8", "replace").splitlines()[-50:]))


def clean(settings: LocalSettings) -> None:
    """Stop everything and remove its data; downloads stay."""
    down(settings)
    for entry in settings.home.iterdir() if settings.home.is_dir() else ():
        if entry.resolve() == settings.cache:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    print(f"clean - the data in {settings.home} is removed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `python -m k2local.cli`."""
    parser = argparse.ArgumentParser(prog="k2local", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "logs", "clean"])
    parser.add_argument("names", nargs="*", help="components, for logs")
    parser.add_argument("--output", choices=["text", "json"], default="text", help="form of the status")
    options = parser.parse_args(arguments)
    settings = LocalSettings.from_environ(os.environ)
    commands: Mapping[str, Callable[[], None]] = {
        "up": lambda: up(settings),
        "down": lambda: down(settings),
        "status": lambda: _print_status(status(settings), options.output),
        "logs": lambda: logs(settings, options.names),
        "clean": lambda: clean(settings),
    }
    try:
        commands[options.command]()
    except K2Error as error:
        print(f"{options.command} - {_reason(error)}", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(error, Interrupted) else 1
    except KeyboardInterrupt:
        print(f"{options.command} - interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _reason(error: K2Error) -> str:
    return f"interrupted: {error}" if isinstance(error, Interrupted) else str(error)


def _start_supervisor(settings: LocalSettings) -> int:
    path = log_path(settings, "supervisor")
    path.parent.mkdir(parents=True, exist_ok=True)
    environ = {
        **os.environ,
        OWNER: str(settings.home),
        "K2_HOME": str(settings.home),
        "K2_CACHE": str(settings.cache),
    }
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "k2local.supervisor"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # A process whose program is being loaded has no environment yet, by which `is_ours` would know it.
    while process.poll() is None and not is_ours(process.pid, settings):
        time.sleep(POLL_SECONDS)
    pid_path(settings).write_text(str(process.pid), "ascii")
    print(f"up - the stack and the fleet start in the background (supervisor {process.pid})")
    return process.pid


def _print_status(states: Sequence[State], form: str) -> None:
    if form == "json":
        print(json.dumps([asdict(state) for state in states]))
        return
    for state in states:
        print(f"{state.name:16} {state.state:9} pid {state.pid or '-':<8} port {state.port}")
    if not states:
        print("nothing runs")


def _dead(state: State) -> State:
    return replace(state, pid=None, state="dead")


if __name__ == "__main__":
    sys.exit(main())
