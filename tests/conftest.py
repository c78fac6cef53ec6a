"""The real stack, one for the whole test session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack

ROOT = Path(__file__).parents[1]


GIVEN = "K2_TEST_STACK"
"""Names a running stack: Kafka's port on this machine; the registry's is two above it."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    settings = LocalSettings(
        home=tmp_path_factory.mktemp("k2"),
        cache=Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")),
        base_port=int(os.environ[GIVEN]) if GIVEN in os.environ else free_port(4),
    )
    if GIVEN in os.environ:
        yield LocalStack(settings)
        return
    with LocalStack(settings) as running:
        yield running
