"""A SQL catalogue that nobody holds any more leaves no connection open."""

import gc
from pathlib import Path

from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.catalogs.sql_catalog import KeepingSqlCatalog
from k2common.settings.iceberg import IcebergSettings
from sqlalchemy import QueuePool


def test_connections_are_closed_with_the_catalogue(tmp_path: Path) -> None:
    settings = IcebergSettings(
        catalog_uri=f"sqlite:///{tmp_path / 'catalog.db'}", warehouse=(tmp_path / "warehouse").as_uri()
    )
    catalog = open_catalog(settings)
    assert isinstance(catalog, KeepingSqlCatalog)
    engine = catalog.engine
    assert catalog.list_namespaces() == []
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedin() == 1
    del catalog
    gc.collect()
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedin() == 0
