"""A sink and a gateway in this process, on a broker and a registry of their own."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from k2common.provision import ProvisionSettings, provision
from k2common.runtime.service import Build, Runtime
from k2common.settings.load import load
from k2local.fleet import environment
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="package")
def sink_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    settings = LocalSettings(
        home=tmp_path_factory.mktemp("sink"),
        cache=Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")),
        base_port=free_port(4),
    )
    with LocalStack(settings) as running:
        yield running


@pytest.fixture(scope="package")
def environ(sink_stack: LocalStack) -> Mapping[str, str]:
    """One catalogue for all: what is announced in the topics is in it."""
    found = {
        **environment(sink_stack.settings),
        "K2_HTTP__PORT": "1",
        "K2_SINK__COMMIT_INTERVAL_SECONDS": "0.1",
        "K2_SINK__POLL_INTERVAL_SECONDS": "0.1",
    }
    asyncio.run(provision(load(ProvisionSettings, found)))
    return found


@asynccontextmanager
async def running(build: Build[Any], settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A service with its loops, and a client of it; raises what a loop ended with."""
    runtime = Runtime()
    async with build(settings, runtime) as service, asyncio.TaskGroup() as group:
        for loop in service.loops:
            group.create_task(awaited(loop))
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://k2", timeout=60) as client:
            yield client
        runtime.stop.set()


async def awaited(loop: Any) -> None:
    await loop()
