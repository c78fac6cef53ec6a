"""From settings to exit code, the same for every service.

Exit codes: 0 after a drain that was asked for, 78 when the process cannot run as configured, 75 when the
drain took too long, 1 for any other failure. The supervisor starts the last two again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import NoReturn, Protocol, TypeAlias, TypeVar

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from k2common.errors import SetupError, TransientError
from k2common.observability.export import spans_exported
from k2common.observability.logging import configure, get_logger
from k2common.runtime import failpoints
from k2common.runtime.clock import Clock, SystemClock
from k2common.runtime.connections import BoundedConnection
from k2common.runtime.metrics import START, ServiceMetrics
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import Retried, delays, ignore_retry, wait_or_stop
from k2common.runtime.startup_app import StartupApp
from k2common.settings.block import Block
from k2common.settings.load import effective, load, secrets
from k2common.settings.service import HttpSettings, ObservabilitySettings, ServiceSettings
from k2common.settings.signing import require_own_secrets

EXIT_SETUP = os.EX_CONFIG
EXIT_DRAIN = os.EX_TEMPFAIL
MIDDLE_PER_FULL = 100
"""Collections of the middle generation before a full one; 10 is the interpreter's own."""
log = get_logger(__name__)


class ServiceBlocks(Block):
    """The blocks that every service has; a service's settings add its own."""

    service: ServiceSettings
    http: HttpSettings
    observability: ObservabilitySettings


Settings = TypeVar("Settings", bound=ServiceBlocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the process gives to the service in it."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    readiness: Readiness = field(default_factory=Readiness)
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    clock: Clock = field(default_factory=SystemClock)
    retried: Retried = ignore_retry
    skipped: Callable[[str], None] = ignore_retry
    """Called with the topic of each message that was passed because it could not be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An HTTP application, and loops that return soon after `stop` is set."""

    app: ASGIApp
    loops: Sequence[Callable[[], Awaitable[None]]] = ()


Build: TypeAlias = Callable[[Settings, Runtime], AbstractAsyncContextManager[Service]]
"""Opens a service's resources in dependency order and closes them in the reverse one.

It is tried again, with metrics of its own, when it raises TransientError.
"""


class Guard(Protocol):
    """Makes middleware that refuses foreign hosts and pages; the layer of HTTP has it."""

    def __call__(self, app: ASGIApp, *, settings: HttpSettings) -> ASGIApp:
        """Return the guarded application."""


def run_service(
    settings_kind: type[Settings],
    build: Build[Settings],
    *,
    name: str,
    guard: Guard,
    environ: Mapping[str, str] = os.environ,
) -> NoReturn:
    """Run the service until SIGTERM or SIGINT and exit; `guard` protects the answers during its start."""
    try:
        settings = load(settings_kind, environ)
        failpoints.check(environ)
        require_own_secrets(settings, settings.http)
    except SetupError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(EXIT_SETUP)
    configure(
        settings.observability, service=name, replica=settings.service.replica, secrets=secrets(settings)
    )
    log.info("settings", settings=effective(settings))
    try:
        with spans_exported(settings.observability, service=name, replica=settings.service.replica):
            metrics = ServiceMetrics(service=name)
            door = StartupApp(metrics.registry, guard=partial(guard, settings=settings.http))
            asyncio.run(_run(settings, build, metrics, door))
    except BaseExceptionGroup as group:  # of task groups; raised again without a SetupError
        faults, others = group.split(SetupError)
        if faults is None:
            raise
        if others is not None:
            # What else failed while the service ended; the exit code stays that of the cause.
            log.error("work failed while the service ended", exc_info=others)
        log.error("the service cannot run as configured", error="; ".join(map(str, _leaves(faults))))
        sys.exit(EXIT_SETUP)
    log.info("stopped")
    sys.exit(0)


async def _run(settings: Settings, build: Build[Settings], metrics: ServiceMetrics, door: StartupApp) -> None:
    runtime = Runtime(retried=metrics.retried, skipped=metrics.skipped)
    metrics.report_parts(lambda: runtime.readiness.parts)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.stop.set)
    work = asyncio.create_task(_serve(settings, build, runtime, metrics, door=door))
    stopping = asyncio.create_task(runtime.stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    done, _ = await asyncio.wait({work}, timeout=settings.service.drain_seconds)
    if not done:
        log.error("work was not finished within the drain deadline", seconds=settings.service.drain_seconds)
        # What did not end in time, a thread or a task, would also hold up an orderly exit.
        os._exit(EXIT_DRAIN)
    await work


async def _serve(
    settings: Settings,
    build: Build[Settings],
    runtime: Runtime,
    metrics: ServiceMetrics,
    *,
    door: StartupApp,
) -> None:
    config = server_config(
        door,
        host=settings.http.host,
        port=settings.http.port,
        graceful_seconds=max(1, int(settings.service.drain_seconds / 2)),
    )
    server = uvicorn.Server(config)
    answered = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_work(settings, build, runtime, metrics, door=door, answered=answered))
        group.create_task(_stop_with(server, runtime.stop))
        # `serve` would take the signals, which are the runtime's, and end the loops in mid-step.
        await server._serve()  # noqa: SLF001
        runtime.stop.set()
        answered.set()


MAX_HEAD_BYTES = 512 * 1024
"""Of request line and headers: a list of symbols may have 100,000 characters, each of several bytes."""


def server_config(app: ASGIApp, *, host: str, port: int, graceful_seconds: int) -> uvicorn.Config:
    """Return how every service listens: connections without progress are aborted."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=BoundedConnection,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=graceful_seconds,
    )


async def _work(
    settings: Settings,
    build: Build[Settings],
    runtime: Runtime,
    metrics: ServiceMetrics,
    *,
    door: StartupApp,
    answered: asyncio.Event,
) -> None:
    """Build the service, again while a dependency is unavailable, and run its loops until stopped."""
    waits = delays(first=0.1, limit=5, random=Random())  # noqa: S311 - scatters retries
    runtime.readiness.waiting(START, "it is starting")
    while not runtime.stop.is_set():
        try:
            async with build(settings, replace(runtime, metrics=metrics.with_others())) as service:
                runtime.readiness.ready(START)
                door.open(service.app)
                _collect_seldom()
                async with asyncio.TaskGroup() as group:
                    for loop in service.loops:
                        group.create_task(_awaited(loop))
                # Requests that are being answered need what the service has opened.
                await answered.wait()
            return
        except TransientError as error:
            log.warning("the service waits for a dependency", error=str(error))
            door.waiting(str(error))
            runtime.retried(START)
            await wait_or_stop(runtime.stop, next(waits))


def _collect_seldom() -> None:
    """Full collections halt every thread: for 0.2 s every eleven seconds in a busy sink by default.

    What the start made lives as long as the process and is left out, and the rest is looked through a tenth
    as often. What is young is collected as ever.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, MIDDLE_PER_FULL)


async def _awaited(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


async def _stop_with(server: uvicorn.Server, stop: asyncio.Event) -> None:
    await stop.wait()
    server.should_exit = True


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
