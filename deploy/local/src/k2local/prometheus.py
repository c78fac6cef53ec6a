"""Prometheus and promtool from Debian's package, unpacked in the download cache and installed nowhere.

apt checks the package against the archive's signature, so there is no hash of our own: a security update
of the package is taken as it comes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from k2common.errors import SetupError

from k2local.probes import answers_ok
from k2local.process import Component, Process
from k2local.settings import HOST

PACKAGE = "prometheus"
APT_SECONDS = 180
START_SECONDS = 60.0
QUERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where the two programs lie."""

    prometheus: Path
    promtool: Path


def can_install() -> bool:
    """Whether this system has Debian's tools for packages."""
    return all(shutil.which(name) for name in ("apt-get", "dpkg-deb"))


def install(cache: Path) -> Programs:
    """The programs under `cache`; what is there is not fetched again.

    A folder gets its name only when it is whole, so a run that was killed leaves none in part. The
    system's own lists of packages are used where they know the package, else lists of our own.
    Raises SetupError when the package cannot be had.
    """
    target = cache.resolve() / PACKAGE
    if not target.exists():
        print(f"setup - Debian's package {PACKAGE}", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _unpack(Path(scratch), target)
    return Programs(prometheus=target / "usr/bin/prometheus", promtool=target / "usr/bin/promtool")


def _unpack(scratch: Path, target: Path) -> None:
    if not can_install():
        raise SetupError(f"{PACKAGE} is unpacked from Debian's package, and this system has no apt-get")
    package = _download(scratch)
    unpacked = scratch / "unpacked"
    _run(["dpkg-deb", "-x", os.fspath(package), os.fspath(unpacked)], cwd=scratch)
    try:
        unpacked.rename(target)
    except OSError:
        # Another process was first.
        if not target.is_dir():
            raise


def _download(scratch: Path) -> Path:
    download = ["apt-get", "--quiet", "--quiet", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
    if not _succeeds(download, cwd=scratch):
        own = _own_lists(scratch)
        # A source that does not answer makes an update fail although the others are there.
        _succeeds(["apt-get", *own, "update"], cwd=scratch)
        _run([download[0], *own, *download[1:]], cwd=scratch)
    (package,) = scratch.glob(f"{PACKAGE}_*.deb")
    return package


def _own_lists(scratch: Path) -> Sequence[str]:
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    return ["-o", f"Dir::State::Lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]


def _succeeds(command: Sequence[str], *, cwd: Path) -> bool:
    try:
        _run(command, cwd=cwd)
    except SetupError:
        return False
    return True


def _run(command: Sequence[str], *, cwd: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            command, cwd=cwd, capture_output=True, text=True, timeout=APT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{command[0]} did not end in {APT_SECONDS} s; is there a network?") from error
    if done.returncode:
        raise SetupError(f"{' '.join(command)} failed; is there a network? {done.stderr.strip()}")


def prometheus_component(programs: Programs, config: Path, *, home: Path, port: int) -> Component:
    """The server on the file `config`, its data in `home`; it answers on the loopback interface alone."""
    home.mkdir(parents=True, exist_ok=True)
    return Component(
        name="prometheus",
        argv=(
            os.fspath(programs.prometheus),
            f"--config.file={config}",
            f"--storage.tsdb.path={home / 'data'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ),
        port=port,
        cwd=home,
        log=home / "prometheus.log",
        ready=partial(answers_ok, f"http://{HOST}:{port}/-/ready"),
        start_seconds=START_SECONDS,
    )


class Prometheus:
    """The HTTP interface of a running server; times are in seconds since 1970."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def query(self, expression: str, *, at: float | None = None) -> Sequence[Mapping[str, Any]]:
        """The series of an instant query, each with its `metric` and `value`."""
        moment = {} if at is None else {"time": str(at)}
        found: Sequence[Mapping[str, Any]] = self._get("query", query=expression, **moment)["result"]
        return found

    def query_range(
        self, expression: str, *, start: float, end: float, step: float
    ) -> Sequence[Mapping[str, Any]]:
        """The series of a range query, each with its `metric` and `values`."""
        span = {"start": str(start), "end": str(end), "step": str(step)}
        found: Sequence[Mapping[str, Any]] = self._get("query_range", query=expression, **span)["result"]
        return found

    def series(self, selector: str) -> Sequence[Mapping[str, str]]:
        """The label sets of all series that were ever seen of `selector`."""
        found: Sequence[Mapping[str, str]] = self._get("series", **{"match[]": selector})
        return found

    def _get(self, path: str, **parameters: str) -> Any:
        # As a form: an expression may be longer than an address.
        answer = httpx.post(
            f"{self.url}/api/v1/{path}", data=parameters, trust_env=False, timeout=QUERY_SECONDS
        )
        body = answer.json()
        if body["status"] != "success":
            raise ValueError(f"{body['error']}: {parameters}")
        return body["data"]


@contextmanager
def running_prometheus(programs: Programs, config: Path, *, home: Path, port: int) -> Iterator[Prometheus]:
    """A server that is ready, stopped at the end whatever happens."""
    process = Process(prometheus_component(programs, config, home=home, port=port))
    try:
        process.wait_ready()
        yield Prometheus(port)
    finally:
        process.stop()


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]))
    except SetupError as error:
        sys.exit(f"setup - {error}")
