"""Kills services of a running fleet while Prometheus scrapes it, and keeps the series for the rules' tests.

    python -m tests.observability.record_kill [--away 110]

The sink and then the loader are killed and stay away, for so long the supervisor is held back; then the
loader is killed three times and started each time. Uploads come all the time. Kept are the metrics that the
rules read, as promtool's input series on the grid of the scrapes, in `recorded/`.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from k2local import cli
from k2local.fleet import SERVICES
from k2local.ports import free_port
from k2local.prometheus import Prometheus, install, running_prometheus
from k2local.testing import Fleet, running_fleet

from tests.observability.conftest import CACHE
from tests.observability.promtool import RULES
from tests.observability.series import input_series

RECORDED = Path(__file__).parent / "recorded"
STEP_SECONDS = 5
QUIET_SECONDS = 45
OBJECTIVE = "5.0"
KILLED = ("iceberg-sink", "csv-loader")
TIMES = 3
UPLOADS_PER_SECOND = 2
HEADER = "ts_event_ns,symbol,venue,price,size\n"
START_NS = 1_700_000_000_000_000_000


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--away", type=int, default=110, help="seconds without the service")
    away = parser.parse_args().away
    programs, port = install(CACHE), free_port()
    with tempfile.TemporaryDirectory() as home, running_fleet(Path(home) / "fleet", CACHE) as fleet:
        config = Path(home) / "prometheus.yml"
        config.write_text(yaml.safe_dump(scrape_config(fleet)), "utf-8")
        with (
            running_prometheus(programs, config, home=Path(home) / "p", port=port) as prometheus,
            _uploads(fleet),
        ):
            for service in KILLED:
                _keep(
                    f"{service}-away",
                    _recorded(prometheus, service, lambda s: _killed_and_held(fleet, s, away)),
                )
            _keep(
                "csv-loader-restarted", _recorded(prometheus, KILLED[-1], lambda s: _killed_again(fleet, s))
            )


def _keep(name: str, recorded: Mapping[str, Any]) -> None:
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{name}.yml").write_text(yaml.safe_dump(recorded, sort_keys=False, width=10_000), "utf-8")
    print(f"{name}: {len(recorded['input_series'])} series", flush=True)


def scrape_config(fleet: Fleet) -> Mapping[str, Any]:
    """One job per service, as deploy/prometheus/prometheus.yml has them."""
    targets = {name: fleet.url(name).removeprefix("http://") for name in SERVICES}
    return {
        "global": {"scrape_interval": f"{STEP_SECONDS}s"},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [target]}]} for name, target in targets.items()
        ],
    }


def _recorded(prometheus: Prometheus, service: str, kill: Callable[[str], None]) -> Mapping[str, Any]:
    started = time.time()
    time.sleep(QUIET_SECONDS)
    killed = time.time()
    kill(service)
    back = time.time()
    time.sleep(QUIET_SECONDS)
    return _kept(prometheus, service, started=started, killed=killed, back=back)


def _kept(
    prometheus: Prometheus, service: str, *, started: float, killed: float, back: float
) -> Mapping[str, Any]:
    ended = time.time()
    selector = f"{{__name__=~'{'|'.join(read_by_rules())}'}}"
    found = prometheus.query(f"{selector}[{round(ended - started)}s]", at=ended)
    # Of a histogram the rules read the bucket of an objective alone.
    found = [one for one in found if one["metric"].get("le", OBJECTIVE) == OBJECTIVE]
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


def _killed_again(fleet: Fleet, service: str) -> None:
    for _ in range(TIMES):
        fleet.kill(service)
        fleet.wait_ready(service)
        time.sleep(2 * STEP_SECONDS)


def _killed_and_held(fleet: Fleet, service: str, seconds: int) -> None:
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
