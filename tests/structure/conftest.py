"""The applications of all services, opened once for the tests that change nothing in them."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.structure.apps import open_apps


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def apps(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, Any]]:
    async with open_apps(tmp_path_factory.mktemp("apps")) as found:
        yield found
