"""The compose file, brought up under a name and on ports of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from k2local.fleet import SERVICES
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.testing import Fleet, GivenFleet

from tests.containers.engine import ROOT, Engine

NAME = "k2test"
FLEET = tuple(SERVICES)
DEPENDENCIES = ("kafka", "registry", "postgres", "store")
SECONDS = 600
POLL_SECONDS = 0.25
PUBLISHED = {
    "STACK_KAFKA_PORT": 0,
    "STACK_GATEWAY_PORT": 1,
    "STACK_REGISTRY_PORT": 2,
    "STACK_QUERY_PORTS": 3,
    "STACK_REPLAY_PORTS": 4,
    "STACK_S3_PORT": 5,
    "STACK_CATALOG_PORT": 6,
    "STACK_PROMETHEUS_PORT": 7,
    "STACK_GRAFANA_PORT": 8,
}
RANGES = {"STACK_LOADER_PORTS": 9, "STACK_SINK_PORTS": 13}
PORTS = 17
"""The registry is two above Kafka, as in the embedded stack."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The project's containers; every command has a time limit."""

    engine: Engine
    environ: Mapping[str, str]

    def compose(self, *arguments: str, seconds: float = SECONDS) -> str:
        """What `docker compose` prints; an error tells what went wrong."""
        files = ["docker-compose.yml", *(["deploy/docker/standin.yml"] if self.engine.standins else [])]
        named = [part for file in files for part in ("--file", str(ROOT / file))]
        base = [
            "docker",
            "compose",
            "--project-directory",
            str(ROOT),
            "--env-file",
            str(ROOT / ".env.example"),
        ]
        return self._run([*base, *named, *arguments], seconds)

    def docker(self, *arguments: str, seconds: float = 120) -> str:
        """What `docker` prints."""
        return self._run(["docker", *arguments], seconds)

    def containers(self, service: str) -> list[str]:
        """Ids of the service's containers, running or not."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def health(self, container: str) -> str:
        """What the engine says of the container: `healthy`, `starting`, `exited`, …"""
        form = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
        state, _, health = self.docker("inspect", "--format", form, container).strip().partition(" ")
        return health if state == "running" and health else state

    def up(self, *services: str, scale: Mapping[str, int] | None = None) -> None:
        """Start what does not run and return when all of it is healthy."""
        scales = [f"--scale={name}={count}" for name, count in (scale or {}).items()]
        # Progress is only of use to a person.
        self.compose("--progress=quiet", "up", "--detach", "--wait", "--no-build", *scales, *services)

    def kill(self, service: str) -> None:
        """SIGKILL the first container of the service, as `docker kill` does, and start it again."""
        container = self.containers(service)[0]
        self.docker("kill", container)
        self.docker("start", container)

    def wait_healthy(self, *services: str, seconds: float = 180) -> None:
        """Return when every container of the services is healthy."""
        deadline = time.monotonic() + seconds
        for service in services:
            for container in self.containers(service):
                while (health := self.health(container)) != "healthy":
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{service} is {health} after {seconds} s")
                    time.sleep(POLL_SECONDS)

    def urls(self) -> dict[str, str]:
        """Where each service answers, its first replica where it has several."""
        ports = zip(FLEET, range(8001, 8006), strict=True)
        return {name: f"http://{self.compose('port', name, str(port)).strip()}" for name, port in ports}

    def fleet(self) -> Fleet:
        """The HTTP surface of the services."""
        kafka = int(self.environ["STACK_KAFKA_PORT"])
        return GivenFleet(self.urls(), LocalSettings(home=ROOT, cache=ROOT, base_port=kafka))

    def passes(self, *arguments: str) -> str:
        """Run tests of the embedded stack on this one; none may fail and some must have run."""
        environ = {
            **os.environ,
            "K2_TEST_FLEET": json.dumps(self.urls()),
            "K2_TEST_STACK": self.environ["STACK_KAFKA_PORT"],
        }
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(
            argv, cwd=ROOT, env=environ, check=False, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout[-6000:]
        (summary,) = (line for line in done.stdout.splitlines() if " passed" in line)
        return summary.strip("= ")

    def _run(self, argv: Sequence[str], seconds: float) -> str:
        done = subprocess.run(
            argv, env={**self.environ}, check=False, capture_output=True, text=True, timeout=seconds
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv[1:])}: {done.returncode}: {done.stderr[-3000:]}")
        return done.stdout


@contextmanager
def stack_of(engine: Engine, *, environ: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """A stack without containers yet; whatever there is of it afterwards goes, with its data."""
    first = free_port(PORTS)
    ports = {name: str(first + offset) for name, offset in PUBLISHED.items()}
    ports |= {name: f"{first + offset}-{first + offset + 3}" for name, offset in RANGES.items()}
    stack = Stack(
        engine, {**engine.environ, **ports, "STACK_NAME": NAME, "STACK_TAG": "test", **(environ or {})}
    )
    stack.compose("down", "--volumes", "--remove-orphans", "--timeout=1")
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout=1")


def prometheus(stack: Stack, path: str, **parameters: Any) -> Any:
    """The `data` of an answer of Prometheus."""
    url = f"http://127.0.0.1:{stack.environ['STACK_PROMETHEUS_PORT']}/api/v1/{path}"
    answer = httpx.get(url, params=parameters, timeout=30)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()["data"]
