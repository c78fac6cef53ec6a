"""SeaweedFS: an object store and a REST catalogue on it, one for the whole folder."""

from collections.abc import Iterator

import pytest
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.load import load
from k2local.ports import free_port
from k2local.process import Process
from k2local.settings import LocalSettings
from k2local.store import PORTS, store_component, store_environment


class Settings(Block):
    iceberg: IcebergSettings


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = tmp_path_factory.mktemp("store")
    process = Process(store_component(LocalSettings(home=home, cache=home, store_port=free_port(PORTS))))
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def iceberg(store: Process) -> IcebergSettings:
    """The settings as a service gets them from its environment."""
    home = store.component.cwd
    local = LocalSettings(home=home, cache=home, store_port=store.component.port)
    return load(Settings, store_environment(local)).iceberg


@pytest.fixture(scope="session")
def catalog(iceberg: IcebergSettings) -> Catalog:
    return open_catalog(iceberg)
