"""The proxy in front of the broker, for tests of what is lost, late or never happens between them."""

import os
from collections.abc import AsyncIterator

import pytest
from k2common.testing.kafka_proxy import KafkaProxy
from k2local.settings import HOST
from k2local.stack import LocalStack

from tests.conftest import GIVEN


@pytest.fixture
async def proxy(stack: LocalStack) -> AsyncIterator[KafkaProxy]:
    if GIVEN in os.environ:
        pytest.skip("the proxy is for a broker that gives its address as 127.0.0.1")
    async with KafkaProxy((HOST, stack.settings.kafka_port)) as running:
        yield running
