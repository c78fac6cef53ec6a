"""One fleet of small steps for all tests that kill parts of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2local.fleet import SERVICES
from k2local.testing import Fleet, running_fleet

from tests.chaos.replicas import SMALL_STEPS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package")
def killed_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("fleet"), cache, environ=SMALL_STEPS) as running:
        yield running


@pytest.fixture
def fleet(killed_fleet: Fleet) -> Fleet:
    """The fleet once all of it has come back from the test before."""
    for name in ("kafka", "registry", *SERVICES):
        killed_fleet.wait_ready(name)
    return killed_fleet
