"""A Docker engine: the machine's own, or one that the scripts of a folder set up, with local images."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(os.environ.get("K2_ENGINE_SCRIPTS", ROOT.parent / "shared" / "engine"))
"""`engine.sh` and `images.sh`: an engine and local images for a machine that reaches no image registry."""
HOME = Path(os.environ.get("K2_ENGINE_HOME", Path.home() / ".cache" / "k2-engine"))
BASES = "bookworm:3.11 trixie:3.13"
SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How to speak to an engine. `standins` says that third parties' images are local ones."""

    environ: Mapping[str, str]
    standins: bool
    seconds: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """An engine, stopped afterwards if it was started here.

    Without one the tests are skipped with a sentence; in CI that is a failure where the scripts are.
    """
    if SCRIPTS.is_dir():
        with _scripted() as engine:
            yield engine
    elif _answers(os.environ):
        yield Engine(environ=dict(os.environ), standins=False)
    else:
        pytest.skip("no Docker engine answers, and K2_ENGINE_SCRIPTS names no folder of scripts for one")


@contextmanager
def _scripted() -> Iterator[Engine]:
    environ = {**os.environ, "ROOT": str(HOME), "BASE_SUITES": BASES}
    engine = SCRIPTS / "engine.sh"
    found = _run(["bash", engine, "status"], environ, check=False).returncode == 0
    began = time.monotonic()
    try:
        _run(["bash", engine, "base"], environ)
        based = time.monotonic()
        told = dict(_exports(_run(["bash", engine, "env"], environ).stdout))
        told = {**os.environ, **told, "PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        _run(["bash", SCRIPTS / "images.sh", "build"], {**told, "ROOT": f"{HOME}-images"})
        seconds = {"engine and base images": based - began, "local images": time.monotonic() - based}
        yield Engine(environ=told, standins=True, seconds=seconds)
    finally:
        if not found:
            _run(["bash", engine, "stop"], environ, check=False)


def _exports(text: str) -> Iterator[tuple[str, str]]:
    for name, value in re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE):
        yield name, shlex.split(value)[0]


def _answers(environ: Mapping[str, str]) -> bool:
    try:
        return _run(["docker", "info"], environ, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _run(
    argv: list[str | Path], environ: Mapping[str, str], *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, env=dict(environ), check=False, capture_output=True, text=True, timeout=SECONDS
    )
    if check and done.returncode:
        raise RuntimeError(f"{argv} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return done
