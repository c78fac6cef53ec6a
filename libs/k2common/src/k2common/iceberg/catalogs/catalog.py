"""One catalogue for all tables; opening it writes at most the SQL catalogue's own tables."""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    UnauthorizedError,
    ValidationError,
)
from pyiceberg.table import Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from k2common.errors import DataDamaged, DataFault, DataMissing, SetupError, TransientError
from k2common.iceberg.catalogs.rest_catalog import ClientCredentials, TimedRestCatalog
from k2common.iceberg.catalogs.sql_catalog import KeepingSqlCatalog
from k2common.observability.logging import get_logger
from k2common.settings.iceberg import IcebergSettings

__all__ = ["AWAY", "Catalog", "Table", "load_table", "open_catalog"]

AWAY = (CommitStateUnknownException, RESTError, SQLAlchemyError, OSError)
"""What a catalogue or a warehouse raises when it did not answer; requests' errors are OSErrors."""
METADATA = "its metadata"
log = get_logger(__name__)
HIDDEN_ROOT = "k2.hidden-root"
"""The property of a catalogue that says where files of hidden uploads go."""
REFUSED = (OAuthError, UnauthorizedError, ForbiddenError)


def open_catalog(settings: IcebergSettings) -> Catalog:
    """The catalogue that the settings name.

    Raises SetupError when it refuses these settings' user, TransientError when it does not answer.
    """
    given = {name: value.get_secret_value() for name, value in settings.properties.items()}
    places = {"warehouse": settings.warehouse, HIDDEN_ROOT: f"{settings.archive_root}/hidden"}
    properties = {**store_properties(settings), **given, **places}
    try:
        if settings.catalog_type == "rest":
            return _rest_catalog(settings, properties)
        return KeepingSqlCatalog(
            settings.catalog_name,
            **properties,
            uri=_sql_address(settings),
            # A database that was restarted has closed the connections of the pool.
            pool_pre_ping="true",
        )
    except REFUSED as error:
        raise SetupError(f"the Iceberg catalogue refuses the user: {error}") from error
    except AWAY as error:
        raise TransientError(f"the Iceberg catalogue does not answer: {error}") from error


def load_table(catalog: Catalog, table: str) -> Table:
    """The table as it is now.

    Raises SetupError when there is none, DataMissing or DataDamaged when its metadata file cannot be read,
    TransientError when the catalogue does not answer.
    """
    try:
        return catalog.load_table(table)
    except NoSuchTableError as error:
        raise SetupError(f"there is no table {table}; run the provisioning first") from error
    except FileNotFoundError as error:
        raise _reported(DataMissing(table, path=METADATA)) from error
    except (ValidationError, ValueError) as error:
        # Of what a catalogue raises only the parsing of a metadata file is one.
        raise _reported(DataDamaged(table, path=METADATA)) from error
    except AWAY as error:
        raise TransientError(f"{table} cannot be loaded: {type(error).__name__}") from error


def _reported(fault: DataFault) -> DataFault:
    log.error("table metadata unusable", kind=fault.kind, table=fault.table)
    return fault


def store_properties(settings: IcebergSettings) -> Mapping[str, str]:
    """pyiceberg's properties of the object store; none for a folder."""
    if not settings.on_s3:
        return {}
    secret = settings.s3_secret_access_key
    given = {
        "s3.endpoint": settings.s3_endpoint,
        "s3.region": settings.s3_region,
        "s3.access-key-id": settings.s3_access_key_id,
        "s3.secret-access-key": None if secret is None else secret.get_secret_value(),
        "s3.connect-timeout": str(settings.s3_timeout_seconds),
        "s3.request-timeout": str(settings.s3_timeout_seconds),
        "s3.force-virtual-addressing": "true" if settings.s3_virtual_hosts else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _rest_catalog(settings: IcebergSettings, properties: Mapping[str, str]) -> Catalog:
    seconds = settings.catalog_timeout_seconds
    tokens = None
    if settings.catalog_credential is not None:
        tokens = ClientCredentials(
            settings.catalog_credential.get_secret_value(),
            url=settings.catalog_token_url or f"{settings.catalog_uri.rstrip('/')}/v1/oauth/tokens",
            scope=settings.catalog_scope,
            seconds=seconds,
        )
    return TimedRestCatalog(
        settings.catalog_name, seconds=seconds, tokens=tokens, **properties, uri=settings.catalog_uri
    )


def _sql_address(settings: IcebergSettings) -> str:
    address = make_url(settings.catalog_uri)
    if settings.catalog_password is not None:
        address = address.set(password=settings.catalog_password.get_secret_value())
    if address.get_backend_name() == "postgresql":
        seconds = max(1, round(settings.catalog_timeout_seconds))
        limits = {"connect_timeout": str(seconds), "options": f"-c statement_timeout={1000 * seconds}"}
        # What the address itself says goes first.
        address = address.set(query={**limits, **address.query})
    return address.render_as_string(hide_password=False)
