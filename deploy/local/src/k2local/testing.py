"""A whole fleet for tests: its own home, its own ports, stopped at the end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from k2common.settings.loopback import exclude_host

from k2local import cli
from k2local.fleet import SERVICES, service_url
from k2local.ports import free_port
from k2local.probes import client
from k2local.settings import HOST, LocalSettings
from k2local.store import PORTS

POLL_SECONDS = 0.1
READY_SECONDS = 60
CALL_SECONDS = 120


class Fleet:
    """A running fleet and its HTTP surface."""

    def __init__(self, settings: LocalSettings, *, headers: Mapping[str, str] | None = None) -> None:
        """`headers` go with every request, such as a key."""
        self.settings = settings
        self.headers = dict(headers or {})

    def url(self, service: str) -> str:
        """Address of a service."""
        return service_url(self.settings, service)

    def get(self, service: str, path: str, **parameters: Any) -> httpx.Response:
        """GET with query parameters; the status is the caller's to check."""
        return self.call("GET", service, path, params=parameters)

    def call(self, method: str, service: str, path: str, **options: Any) -> httpx.Response:
        """Any request; the status is the caller's to check."""
        headers = {**self.headers, **options.pop("headers", {})}
        return client().request(
            method, f"{self.url(service)}{path}", headers=headers, timeout=CALL_SECONDS, **options
        )

    def data(self, service: str, path: str, **parameters: Any) -> Any:
        """The `data` of a successful answer."""
        answer = self.get(service, path, **parameters)
        assert answer.status_code == httpx.codes.OK, answer.text  # noqa: S101 - for tests alone
        return answer.json()["data"]

    def post(
        self, content: bytes, *, headers: Mapping[str, str] | None = None, **parameters: Any
    ) -> httpx.Response:
        """POST an upload."""
        options = {"params": parameters, "content": content, "headers": dict(headers or {})}
        return self.call("POST", "ingest-gateway", "/v1/uploads", **options)

    def upload(self, content: bytes, **parameters: Any) -> dict[str, Any]:
        """POST and wait: the receipt once it is final."""
        answer = self.post(content, **parameters)
        assert answer.status_code in (httpx.codes.OK, httpx.codes.ACCEPTED), answer.text  # noqa: S101
        return self.receipt(answer.json()["data"]["upload_id"])

    def receipt(self, upload_id: str, *, seconds: float = 120) -> dict[str, Any]:
        """The receipt once it is final, or as it is when the time is up."""
        path = f"/v1/uploads/{upload_id}"
        receipt: dict[str, Any] = self.data("ingest-gateway", path, wait="committed", timeout=seconds)
        return receipt

    def pid(self, name: str) -> int | None:
        """The pid of a component that is ready."""
        states = cli.status(self.settings)
        return next((s.pid for s in states if s.name == name and s.state == "ready"), None)

    def kill(self, name: str, *, seconds: float = READY_SECONDS) -> None:
        """SIGKILL a component as soon as it is ready; returns when it is gone."""
        pid = self._ready(name, seconds)
        os.kill(pid, signal.SIGKILL)
        while self.pid(name) == pid:
            time.sleep(POLL_SECONDS)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """A component is frozen as soon as it is ready: it accepts connections and answers nothing."""
        pid = self._ready(name, READY_SECONDS)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def wait_ready(self, name: str, *, seconds: float = READY_SECONDS) -> None:
        """Return when the component is ready again."""
        self._ready(name, seconds)

    def _ready(self, name: str, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while (pid := self.pid(name)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not ready after {seconds} s")
            time.sleep(POLL_SECONDS)
        return pid


class GivenFleet(Fleet):
    """A fleet that somebody else runs, by its services' addresses and Kafka's port; nothing can be killed."""

    def __init__(self, urls: Mapping[str, str], settings: LocalSettings) -> None:
        super().__init__(settings)
        self._urls = urls

    def url(self, service: str) -> str:
        return self._urls[service]


@contextmanager
def running_fleet(
    home: Path,
    cache: Path,
    *,
    environ: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    on_s3: bool = False,
) -> Iterator[Fleet]:
    """A fleet in `home`, or on an object store of its own; `environ` has more settings for its services.

    `headers` go with every request of the test.
    """
    # The caller's own requests to the fleet.
    exclude_host(os.environ, HOST)
    services = 4 + len(SERVICES)
    ports = free_port(services + PORTS)
    variables = {
        **os.environ,
        "K2_HOME": str(home),
        "K2_CACHE": str(cache),
        "K2_BASE_PORT": str(ports),
        "K2_SERVICES_PORT": str(ports + 4),
        **({"K2_STORE_PORT": str(ports + services)} if on_s3 else {}),
        **(environ or {}),
    }

    def command(name: str) -> None:
        argv = [sys.executable, "-m", "k2local.cli", name]
        subprocess.run(argv, env=variables, check=True, stdout=subprocess.DEVNULL)  # noqa: S603

    try:
        command("up")
        yield Fleet(LocalSettings.from_environ(variables), headers=headers)
    finally:
        command("down")
