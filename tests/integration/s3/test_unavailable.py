"""A catalogue or a store that is unavailable, silent or strict: an error in time, then work goes on."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2common.engine.connection import Engine
from k2common.errors import SetupError, TransientError
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.load import load
from k2common.testing.iceberg import append_trades
from k2local.ports import free_port
from k2local.process import Process
from k2local.settings import LocalSettings
from k2local.store import PORTS, store_component, store_environment
from pydantic import SecretStr

from .conftest import Settings

LIMIT_SECONDS = 60


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_wrong_secret_is_an_error_of_the_settings(iceberg: IcebergSettings) -> None:
    with pytest.raises(SetupError, match="refuses"):
        open_catalog(iceberg.model_copy(update={"catalog_credential": SecretStr("k2:wrong")}))


def test_a_silent_catalogue_is_given_up_in_time(iceberg: IcebergSettings, silent: str) -> None:
    settings = iceberg.model_copy(update={"catalog_uri": silent, "catalog_timeout_seconds": 0.5})
    began = time.monotonic()
    with pytest.raises(TransientError):
        open_catalog(settings)
    assert time.monotonic() - began < LIMIT_SECONDS


@pytest.mark.parametrize("address", ["silent", "closed"])
def test_a_store_that_does_not_answer_is_given_up_in_time(
    iceberg: IcebergSettings, silent: str, address: str
) -> None:
    endpoint = silent if address == "silent" else f"http://127.0.0.1:{free_port()}"
    settings = iceberg.model_copy(update={"s3_endpoint": endpoint, "s3_timeout_seconds": 1.0})
    catalog = open_catalog(settings)
    began = time.monotonic()
    with pytest.raises(TransientError):
        Archive(catalog, root=settings.archive_root).holds("ab" * 32)
    assert time.monotonic() - began < LIMIT_SECONDS
    engine = Engine(EngineSettings(memory_megabytes=256), warehouse=settings)
    began = time.monotonic()
    with (
        engine.query("SELECT * FROM read_parquet('s3://warehouse/x.parquet')", {}) as query,
        pytest.raises(TransientError),
    ):
        query.table()
    assert time.monotonic() - began < LIMIT_SECONDS
    engine.close()


def test_a_store_that_was_killed_has_what_it_acknowledged(tmp_path: Path) -> None:
    local = LocalSettings(home=tmp_path, cache=tmp_path, store_port=free_port(PORTS))
    settings = load(Settings, store_environment(local)).iceberg
    process = Process(store_component(local))
    try:
        process.wait_ready()
        catalog = open_catalog(settings)
        ensure_tables(catalog, [TRADES])
        append_trades(catalog, 10)
        process.kill()
        with pytest.raises(TransientError):
            load_table(catalog, TRADES.table)
        process = Process(store_component(local))
        process.wait_ready()
        append_trades(catalog, 10)
        table = load_table(catalog, TRADES.table)
        head = head_version(table)
        assert head is not None
        assert head.number == 2
        assert table.scan().to_arrow().num_rows == 20
    finally:
        process.stop()
