"""One catalogue for all tables; opening it writes at most the SQL catalogue's own tables."""

from __future__ import annotations

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitStateUnknownException, NoSuchTableError, RESTError
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from k2common.errors import SetupError, TransientError
from k2common.settings.iceberg import IcebergSettings

__all__ = ["AWAY", "Catalog", "load_table", "open_catalog"]

AWAY = (CommitStateUnknownException, RESTError, SQLAlchemyError, OSError)
"""What a catalogue or a warehouse raises when it did not answer; requests' errors are OSErrors."""


def open_catalog(settings: IcebergSettings) -> Catalog:
    """The catalogue that the settings name.

    Raises TransientError when it does not answer.
    """
    properties = {name: value.get_secret_value() for name, value in settings.properties.items()}
    properties |= {
        "type": settings.catalog_type,
        "uri": settings.catalog_uri,
        "warehouse": settings.warehouse,
    }
    try:
        return load_catalog(settings.catalog_name, **properties)
    except AWAY as error:
        raise TransientError(f"the Iceberg catalogue does not answer: {error}") from error


def load_table(catalog: Catalog, table: str) -> Table:
    """The table as it is now.

    Raises SetupError when there is none, TransientError when the catalogue does not answer.
    """
    try:
        return catalog.load_table(table)
    except NoSuchTableError as error:
        raise SetupError(f"there is no table {table}; run the provisioning first") from error
    except AWAY as error:
        raise TransientError(f"{table} cannot be loaded: {error}") from error
