"""A run of the fleet that a real Prometheus watched from its beginning to its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from k2common.http.access.keys import create, rotate
from k2local.fleet import SERVICES
from k2local.ports import free_port
from k2local.prometheus import Programs, Prometheus, running_prometheus
from k2local.testing import Fleet, running_fleet

from tests.observability.expressions import substituted
from tests.observability.scenes import Scenes, Told

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
WAIT_SECONDS = 60
QUICK: Mapping[str, str] = {
    # What takes minutes or hours in operation takes seconds here.
    "K2_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
    "K2_ICEBERG__LIVE_SNAPSHOTS": "2",
    "K2_GAPS__POLL_INTERVAL_SECONDS": "1",
    "K2_SINK__IDLE_COMMIT_SECONDS": "5",
    "K2_MAINTENANCE__COMPACT_INTERVAL_SECONDS": "2",
    "K2_MAINTENANCE__EXPIRE_INTERVAL_SECONDS": "5",
    "K2_MAINTENANCE__ORPHAN_REMOVAL_INTERVAL_SECONDS": "10",
    "K2_MAINTENANCE__ORPHAN_MIN_AGE_SECONDS": "10",
    "K2_MAINTENANCE__PURGE_AFTER_SECONDS": "1",
    "K2_MAINTENANCE__PURGE_INTERVAL_SECONDS": "10",
    # So little at once that a few clients are a crowd.
    "K2_GATEWAY__CONCURRENT_UPLOADS": "1",
    "K2_ENGINE__CONCURRENT_QUERIES": "1",
    "K2_ENGINE__MAX_QUEUED_QUERIES": "4",
    "K2_SANDBOX__CONCURRENT_STATEMENTS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What Prometheus saw between two moments, in seconds since 1970."""

    prometheus: Prometheus
    started: float
    ended: float
    told: Told

    @property
    def seconds(self) -> int:
        """How long it was."""
        return round(self.ended - self.started)

    def samples(self, selector: str) -> Sequence[Mapping[str, Any]]:
        """Every sample of the run: series with `metric` and `values`."""
        return self.prometheus.query(f"{selector}[{self.seconds}s]", at=self.ended)

    def over_time(self, expression: str, *, step: float) -> Sequence[Mapping[str, Any]]:
        """An expression of a board over the whole run, with all values chosen."""
        filled = substituted(expression, span="10s")
        return self.prometheus.query_range(filled, start=self.started, end=self.ended, step=step)


@contextmanager
def observed_run(home: Path, cache: Path, programs: Programs) -> Iterator[Observed]:
    """Play all scenes and stop the fleet; the server that watched goes on answering."""
    home.mkdir(parents=True, exist_ok=True)
    key = old_key(home / "keys.json")
    environ = {**QUICK, "K2_HTTP__KEYS_FILE": str(home / "keys.json")}
    config = home / "prometheus.json"
    with ExitStack() as watching:
        with running_fleet(home / "fleet", cache, environ=environ, headers={"X-API-Key": key}) as fleet:
            config.write_text(json.dumps(configuration(fleet)), "utf-8")
            prometheus = watching.enter_context(
                running_prometheus(programs, config, home=home / "prometheus", port=free_port())
            )
            started = _all_seen(prometheus)
            scenes = Scenes(fleet, prometheus)
            scenes.told.others |= {key, key.split("_")[1]}
            scenes.play()
            # The last changes are seen by two scrapes more.
            time.sleep(3)
            ended = time.time()
        yield Observed(prometheus=prometheus, started=started, ended=ended, told=scenes.told)


def old_key(path: Path) -> str:
    """A key that is accepted for an hour more, since a new one has taken its place."""
    now = datetime.now(UTC)
    key = create(path, name="observed", scopes=["admin"], now=now)
    rotate(path, key.split("_")[1], grace=timedelta(hours=1), now=now)
    return key


def configuration(fleet: Fleet) -> Mapping[str, object]:
    """As deploy/prometheus/prometheus.yml, with the fleet's own addresses and each second."""
    jobs = [
        {
            "job_name": name,
            "static_configs": [{"targets": [fleet.url(name).removeprefix("http://")]}],
        }
        for name in SERVICES
    ]
    times = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    return {"global": times, "rule_files": [f"{RULES}/*.yml"], "scrape_configs": jobs}


def _all_seen(prometheus: Prometheus) -> float:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(prometheus.query("up == 1")) < len(SERVICES):
        assert time.monotonic() < deadline, "not every service was scraped"
        time.sleep(0.2)
    return time.time()
