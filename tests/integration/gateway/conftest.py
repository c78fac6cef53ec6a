"""A gateway in this process, behind a proxy that loses, holds and answers requests to Kafka."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from ingest_gateway.app import build
from ingest_gateway.settings import IngestGatewaySettings
from k2common.provision import ProvisionSettings, provision
from k2common.runtime.service import Runtime
from k2common.settings.load import load
from k2common.testing.kafka_proxy import KafkaProxy
from k2local.fleet import environment
from k2local.stack import LocalStack

Gateway = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
async def settings(stack: LocalStack, tmp_path: Path) -> IngestGatewaySettings:
    """Settings of a gateway that reaches Kafka without the proxy; its name and its spool are its own."""
    environ = environment(stack.settings.model_copy(update={"home": tmp_path}))
    await provision(load(ProvisionSettings, environ))
    return load(
        IngestGatewaySettings,
        {
            **environ,
            "K2_HTTP__PORT": "1",
            "K2_SERVICE__REPLICA": f"gateway-{uuid4().hex}",
            "K2_GATEWAY__SPOOL": str(tmp_path / "spool"),
            "K2_GATEWAY__SPOOL_RESERVE_BYTES": "0",
        },
    )


@pytest.fixture
def gateway(settings: IngestGatewaySettings, proxy: KafkaProxy) -> Gateway:
    """Starts a gateway that reaches Kafka through the proxy; leaving the context kills it."""
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
    proxied = settings.model_copy(update={"kafka": kafka})
    return lambda: killed_at_the_end(proxied)


@asynccontextmanager
async def killed_at_the_end(settings: IngestGatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    runtime = Runtime()
    async with build(settings, runtime) as service:
        works = [asyncio.ensure_future(loop()) for loop in service.loops]
        transport = httpx.ASGITransport(app=service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://k2", timeout=60) as client:
            yield client
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
