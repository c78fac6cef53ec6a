"""The whole fleet, one for all end-to-end tests."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2local.settings import LocalSettings
from k2local.testing import Fleet, GivenFleet, running_fleet

ROOT = Path(__file__).parents[2]
GIVEN = "K2_TEST_FLEET"
"""Names a running fleet, the addresses of its services as JSON; its stack is named by K2_TEST_STACK."""
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if GIVEN in os.environ:
        settings = LocalSettings(home=ROOT, cache=ROOT, base_port=int(os.environ["K2_TEST_STACK"]))
        yield GivenFleet(json.loads(os.environ[GIVEN]), settings)
        return
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("fleet"), cache) as running:
        yield running


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the sample data is not beside the checkout")
    return DATA
