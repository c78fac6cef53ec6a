"""Whether a starting fleet gets on: time passes for those alone that do nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STALL_SECONDS = 60.0
MOST_DEATHS = 5
REPORT_SECONDS = 10.0
TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is seen of the components that are not ready: deaths in a row, size of the logs, CPU seconds."""

    deaths: Mapping[str, int]
    log_bytes: int
    cpu_seconds: int


@dataclass(slots=True)
class StartupProgress:
    """Decides when to give up; `now` is in seconds of a monotonic clock.

    A component makes progress when it gets ready, writes to its log or uses the processor for a second. All
    of them together may be idle for STALL_SECONDS, and one may end MOST_DEATHS times.
    """

    moved_at: float
    reported_at: float
    last: Snapshot | None = None

    def observe(self, snapshot: Snapshot, now: float) -> str | None:
        """Take what is seen now and return why waiting is pointless, None while it is not."""
        if snapshot != self.last:
            self.last, self.moved_at = snapshot, now
        for name, deaths in snapshot.deaths.items():
            if deaths >= MOST_DEATHS:
                return f"{name} has ended {deaths} times"
        if now - self.moved_at > STALL_SECONDS:
            return f"{self._waiting()} did nothing for {STALL_SECONDS:.0f} s"
        return None

    def report(self, now: float) -> str | None:
        """Return a line about what is waited for, each REPORT_SECONDS one."""
        if now - self.reported_at < REPORT_SECONDS:
            return None
        self.reported_at = now
        return f"waiting for {self._waiting()}"

    def _waiting(self) -> str:
        return ", ".join(self.last.deaths) if self.last else "the supervisor"


def take_snapshot(deaths: Mapping[str, int], supervisor: int, logs: Sequence[Path]) -> Snapshot:
    """Return what is seen now of the components by name; `logs` are theirs and the supervisor's."""
    return Snapshot(
        deaths=dict(deaths),
        log_bytes=sum(log.stat().st_size for log in logs if log.is_file()),
        cpu_seconds=round(sum(map(_cpu_seconds, [supervisor, *_children(supervisor)]))),
    )


def log_tail(log: Path) -> str:
    """Return the log's last lines under its path; only the path if it is empty."""
    lines = log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:] if log.is_file() else []
    return "\n".join([f"==> {log} <==", *lines])


def _cpu_seconds(pid: int) -> float:
    # User and system time of the process and of the children it has waited for: proc(5), fields 14 to 17.
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    ticks = sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []
