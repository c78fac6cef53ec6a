"""Replicas of the sink that die at fail points, are killed and frozen, and are started again."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.testing import Fleet

from tests.chaos.replicas import Replica

SERVICE = "iceberg-sink"
POINTS = ("sink.written", "sink.committed", "sink.announced", "catalogue.before", "catalogue.after")
SESSION_SECONDS = 6
FROZEN_SECONDS = 9
GUARD_SECONDS = 60
ENVIRON = {
    "K2_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
    "K2_ICEBERG__LIVE_SNAPSHOTS": "5",
    "K2_MAINTENANCE__COMPACT_INTERVAL_SECONDS": "2",
    "K2_MAINTENANCE__EXPIRE_INTERVAL_SECONDS": "2",
    "K2_MAINTENANCE__ORPHAN_REMOVAL_INTERVAL_SECONDS": "5",
    "K2_MAINTENANCE__ORPHAN_MIN_AGE_SECONDS": str(GUARD_SECONDS),
}
UNEXPECTED = "unexpected"


@dataclass
class Sinks:
    """Replicas, and a count of what happened to them."""

    settings: LocalSettings
    home: Path
    random: Random
    replicas: list[Replica] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    working: list[Replica] = field(default_factory=list)
    frozen: dict[str, float] = field(default_factory=dict)

    def start(self, count: int, *, shares: str) -> None:
        """Start `count` replicas whose fail points strike by `shares`."""
        ports = free_port(count)
        fleet = Fleet(self.settings)
        environ = {**ENVIRON, "K2_FAILPOINTS": shares}
        for n in range(count):
            replica = Replica(fleet, SERVICE, f"sink-{n}", ports + n, self.home, environ)
            replica.start()
            self.replicas.append(replica)

    @property
    def kills(self) -> int:
        """How many processes ended without warning."""
        return self.happened["killed"] + self.happened["failpoint"]

    def tend(self) -> None:
        """Start again what has died, wake what was frozen for long enough."""
        for replica in self.replicas:
            code = replica.exit_code
            if code == -signal.SIGKILL:
                self.happened["failpoint"] += 1
            elif code == 1:
                self.happened["exit 1"] += 1  # a dependency was unavailable at its start
            elif code is not None:
                self.happened[f"{UNEXPECTED} exit {code}"] += 1
            if code is not None:
                self.frozen.pop(replica.name, None)
                replica.start()
            elif self.frozen.get(replica.name, time.monotonic()) < time.monotonic() - FROZEN_SECONDS:
                self.wake(replica)

    async def any_ready(self) -> bool:
        """Whether one of them works, so that there is something to disturb."""
        self.working = []
        async with httpx.AsyncClient(timeout=1) as client:
            for replica in self.replicas:
                with suppress(httpx.TransportError):
                    answer = await client.get(f"{replica.url}/readyz")
                    self.working += [replica] if answer.status_code == httpx.codes.OK else []
        return bool(self.working)

    def kill(self) -> None:
        """SIGKILL one that works."""
        replica = self.random.choice(self.working)
        self.happened["killed"] += 1
        self.frozen.pop(replica.name, None)
        replica.kill()

    def freeze(self) -> None:
        """Stop one beyond its session, unless one is stopped already; it wakes as a zombie."""
        if not self.frozen:
            replica = self.random.choice(self.working)
            self.happened["frozen"] += 1
            self.frozen[replica.name] = time.monotonic()
            os.kill(replica.pid, signal.SIGSTOP)

    def wake(self, replica: Replica) -> None:
        """Let a frozen one go on."""
        del self.frozen[replica.name]
        os.kill(replica.pid, signal.SIGCONT)

    def points(self) -> Counter[str]:
        """How often each fail point struck, by the replicas' own words."""
        found: Counter[str] = Counter()
        for replica in self.replicas:
            text = (self.home / f"{SERVICE}-{replica.name}.log").read_text("utf-8", errors="replace")
            for point in POINTS:
                found[point] += text.count(f"failpoint {point}\n")
        return found

    def end(self) -> None:
        """End them all."""
        for replica in self.replicas:
            replica.end()
