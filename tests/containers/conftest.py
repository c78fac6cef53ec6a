"""One engine, one set of images, one stack at a time; figures and, after a failure, logs are printed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from k2local.testing import Fleet

from tests.containers.composed import DEPENDENCIES, FLEET, Stack, stack_of
from tests.containers.engine import Engine, running_engine

DATA = Path(__file__).parents[3] / "shared" / "data"
FIGURES = pytest.StashKey[list[str]]()
SQL_ON_POSTGRESQL = {
    "STACK_CATALOG_TYPE": "sql",
    "STACK_CATALOG_URI": "postgresql+psycopg://k2@postgres/catalog",
    "STACK_WAREHOUSE": "s3://tables",
}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash[FIGURES]:
        terminalreporter.section("containers")
        for line in figures:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.containers)
            item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[str]:
    """Lines for the summary."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def engine(figures: list[str]) -> Iterator[Engine]:
    with running_engine() as running:
        figures += [f"{what}: {seconds:.0f} s" for what, seconds in running.seconds.items()]
        yield running


@pytest.fixture(scope="session")
def images(engine: Engine, figures: list[str]) -> Mapping[str, str]:
    """The five images, built from the checkout; service and tag."""
    with stack_of(engine) as stack:
        began = time.monotonic()
        for service in FLEET:
            stack.compose("build", "--quiet", service)
        figures.append(f"five images built: {time.monotonic() - began:.0f} s")
    tags = {service: f"k2/{service}:test" for service in FLEET}
    for service, tag in tags.items():
        size = int(stack.docker("image", "inspect", "--format", "{{.Size}}", tag))
        figures.append(f"image {service}: {size / 1e6:.0f} MB")
    return tags


@pytest.fixture(scope="session")
def composed(images: Mapping[str, str], engine: Engine, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack as the compose file has it."""
    with stack_of(engine) as stack, _logs_after_failure(stack, request):
        _up(stack, request)
        yield stack


@pytest.fixture(scope="session")
def on_sql(composed: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The same with the SQL catalogue on PostgreSQL, in place of the other."""
    composed.compose("down", "--volumes", "--timeout=5")
    stack = replace(composed, environ={**composed.environ, **SQL_ON_POSTGRESQL})
    with _logs_after_failure(stack, request):
        _up(stack, request, *DEPENDENCIES, "init", *FLEET)
        yield stack


@pytest.fixture(scope="session")
def fleet(composed: Stack) -> Fleet:
    return composed.fleet()


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the sample data is not beside the checkout")
    return DATA


def _up(stack: Stack, request: pytest.FixtureRequest, *services: str) -> None:
    figures = request.config.stash[FIGURES]
    began = time.monotonic()
    stack.up(*services)
    kind = stack.environ.get("STACK_CATALOG_TYPE", "rest")
    figures.append(f"stack with catalogue {kind} healthy: {time.monotonic() - began:.0f} s")


@contextmanager
def _logs_after_failure(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = True
    try:
        yield
        failed = bool(request.session.testsfailed)
    finally:
        if failed:
            tail = os.environ.get("K2_LOG_LINES", "40")
            print(stack.compose("ps", "--all"), stack.compose("logs", "--no-color", "--tail", tail))
