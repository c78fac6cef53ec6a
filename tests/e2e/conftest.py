"""The whole fleet, one for all end-to-end tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2local.testing import Fleet, running_fleet

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("fleet"), cache) as running:
        yield running


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the sample data is not beside the checkout")
    return DATA
