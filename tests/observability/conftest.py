"""The programs of Prometheus, from Debian's package."""

import os
from pathlib import Path

import pytest
from k2local.prometheus import Programs, can_install, install

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()


@pytest.fixture(scope="session")
def programs() -> Programs:
    if not can_install() and "CI" not in os.environ:
        pytest.skip("Prometheus is unpacked from Debian's package, and this system has no apt-get")
    return install(CACHE)
