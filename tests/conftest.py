"""The real stack, one for the whole test session."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2local.process import port_answers
from k2local.settings import HOST, LocalSettings
from k2local.stack import LocalStack

ROOT = Path(__file__).parents[1]


def free_base_port() -> int:
    """A port below the range of outgoing connections with four free ones in a row."""
    while True:
        base = random.randrange(20_000, 32_000, 10)  # noqa: S311 - not a secret
        if not any(port_answers(HOST, base + offset) for offset in range(4)):
            return base


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    settings = LocalSettings(
        home=tmp_path_factory.mktemp("k2"),
        cache=Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")),
        base_port=free_base_port(),
    )
    with LocalStack(settings) as running:
        yield running
