"""Kills a service of a running fleet while Prometheus scrapes it, and keeps the series for the rules' tests.

    python -m tests.observability.record_kill iceberg-sink [--away 150]
    python -m tests.observability.record_kill iceberg-sink --times 3

Uploads come all the time. The supervisor is held back for as long as the service is to stay away; with
`--times` it is not, and starts the service again each time. Kept are the metrics that the rules read, as
promtool's input series on the grid of the scrapes, in `recorded/<service>-<away or restarted>.yml`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from k2local import cli
from k2local.fleet import SERVICES
from k2local.ports import free_port
from k2local.prometheus import Prometheus, install, running_prometheus
from k2local.testing import Fleet, running_fleet

from tests.observability.series import input_series

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
RECORDED = Path(__file__).parent / "recorded"
STEP_SECONDS = 5
QUIET_SECONDS = 60
UPLOADS_PER_SECOND = 2
HEADER = "ts_event_ns,symbol,venue,price,size\n"
START_NS = 1_700_000_000_000_000_000


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--away", type=int, default=150, help="seconds without the service")
    parser.add_argument("--times", type=int, default=0, help="kill it so often, and let it start each time")
    options = parser.parse_args()
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    programs, port = install(cache), free_port()
    with tempfile.TemporaryDirectory() as home, running_fleet(Path(home) / "fleet", cache) as fleet:
        config = Path(home) / "prometheus.yml"
        config.write_text(yaml.safe_dump(scrape_config(fleet)), "utf-8")
        with running_prometheus(programs, config, home=Path(home) / "p", port=port) as prometheus:
            recorded = _record(fleet, prometheus, options)
    name = f"{options.service}-{'restarted' if options.times else 'away'}.yml"
    (RECORDED / name).write_text(yaml.safe_dump(recorded, sort_keys=False, width=10_000), "utf-8")
    print(f"{name}: {len(recorded['input_series'])} series")


def scrape_config(fleet: Fleet) -> Mapping[str, Any]:
    """One job per service, as deploy/prometheus/prometheus.yml has them."""
    targets = {name: fleet.url(name).removeprefix("http://") for name in SERVICES}
    return {
        "global": {"scrape_interval": f"{STEP_SECONDS}s"},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [target]}]} for name, target in targets.items()
        ],
    }


def _record(fleet: Fleet, prometheus: Prometheus, options: argparse.Namespace) -> Mapping[str, Any]:
    started = time.time()
    with _uploads(fleet):
        time.sleep(QUIET_SECONDS)
        killed = time.time()
        if options.times:
            for _ in range(options.times):
                fleet.kill(options.service)
                fleet.wait_ready(options.service)
                time.sleep(2 * STEP_SECONDS)
        else:
            _kill_and_hold(fleet, options.service, options.away)
        back = time.time()
        time.sleep(QUIET_SECONDS)
    time.sleep(2 * STEP_SECONDS)
    return _kept(prometheus, options.service, started=started, killed=killed, back=back)


def _kept(
    prometheus: Prometheus, service: str, *, started: float, killed: float, back: float
) -> Mapping[str, Any]:
    ended = time.time()
    selector = f"{{__name__=~'{'|'.join(read_by_rules())}'}}"
    found = prometheus.query(f"{selector}[{round(ended - started)}s]", at=ended)
    start = min(at for one in found for at, _ in one["values"])
    return {
        "service": service,
        "interval": f"{STEP_SECONDS}s",
        "killed": round(killed - start),
        "back": round(back - start),
        "ended": round(ended - start),
        "input_series": input_series(found, start=start, step=STEP_SECONDS),
    }


def read_by_rules() -> Sequence[str]:
    """The metrics that the rules read, `up` and the process's start among them."""
    text = "".join(path.read_text("utf-8") for path in sorted(RULES.glob("*.yml")))
    ours = set(re.findall(r"(?<![:\w])k2_[a-z0-9_]+", text))
    return ["up", "process_start_time_seconds", *sorted(ours)]


def _kill_and_hold(fleet: Fleet, service: str, seconds: int) -> None:
    supervisor = cli.supervisor_pid(fleet.settings)
    pid = fleet.pid(service)
    assert supervisor is not None
    assert pid is not None
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    fleet.wait_ready(service)


@contextmanager
def _uploads(fleet: Fleet) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=_upload_until, args=(fleet, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _upload_until(fleet: Fleet, stop: threading.Event) -> None:
    for number in itertools.count():
        at = START_NS + number * 1_000_000
        lines = "".join(f"{at + n},S{n % 5},XTST,1.{n:02},1\n" for n in range(20))
        fleet.post((HEADER + lines).encode(), dataset="trades", source="recorded")
        if stop.wait(1 / UPLOADS_PER_SECOND):
            return


if __name__ == "__main__":
    main()
