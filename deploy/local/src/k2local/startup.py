"""Waiting for a starting fleet, as long as it gets on, with a word about what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from k2common.errors import SetupError, TransientError

from k2local.fleet import SERVICES
from k2local.settings import LocalSettings
from k2local.startup_progress import StartupProgress, log_tail, take_snapshot
from k2local.supervisor import State, read_states

POLL_SECONDS = 0.1


def component_names(settings: LocalSettings) -> Sequence[str]:
    """Return every component that `up` brings up."""
    return ["kafka", "registry", *(["store"] if settings.store_port is not None else []), *SERVICES]


def log_path(settings: LocalSettings, name: str) -> Path:
    """Return where the log of a component, or of the supervisor, is kept."""
    return settings.home / "logs" / f"{name}.log"


def wait_until_ready(
    settings: LocalSettings, supervisor: int, *, is_running: Callable[[], bool]
) -> Sequence[State]:
    """Return the components' states once all are ready, printing each as it gets so.

    `is_running` says whether the supervisor still runs. Raises SetupError when it does not, TransientError
    when no component makes progress any more; both with the last lines of the log that shows why.
    """
    progress = StartupProgress(moved_at=time.monotonic(), reported_at=time.monotonic())
    ready: dict[str, State] = {}
    while True:
        states = {state.name: state for state in read_states(settings)}
        for name, state in states.items():
            if state.state == "ready" and name not in ready:
                ready[name] = state
                print(f"up - {name} is ready on port {state.port}", flush=True)
        waiting = [name for name in component_names(settings) if name not in ready]
        if not is_running():
            raise SetupError(f"the supervisor has ended\n{log_tail(log_path(settings, 'supervisor'))}")
        if not waiting:
            return list(ready.values())
        _look(settings, progress, {name: _deaths(states.get(name)) for name in waiting}, supervisor)
        time.sleep(POLL_SECONDS)


def _look(
    settings: LocalSettings, progress: StartupProgress, deaths: dict[str, int], supervisor: int
) -> None:
    logs = [log_path(settings, name) for name in (*deaths, "supervisor")]
    now = time.monotonic()
    reason = progress.observe(take_snapshot(deaths, supervisor, logs), now)
    if reason is not None:
        first = next((name for name in deaths if log_path(settings, name).is_file()), "supervisor")
        worst = max(deaths, key=lambda name: deaths[name])
        raise TransientError(f"{reason}\n{log_tail(log_path(settings, worst if deaths[worst] else first))}")
    report = progress.report(now)
    if report is not None:
        print(f"up - {report}", flush=True)


def _deaths(state: State | None) -> int:
    return 0 if state is None else state.deaths
