"""How the engine reads an object store: by its own extension, which is installed with the project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs

from k2common.errors import SetupError
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.loopback import exclude_host, is_loopback


def attach_store(database: Any, settings: IcebergSettings) -> None:
    """Let the database read the files under `s3://` with the settings' key; nothing is fetched for it.

    Raises SetupError when the installed extension is not the installed engine's.
    """
    if not settings.on_s3:
        return
    folder = Path(duckdb_extension_httpfs.__file__).parent
    extension = folder / "extensions" / f"v{duckdb.__version__}" / "httpfs.duckdb_extension"
    if not extension.is_file():
        raise SetupError(f"there is no httpfs extension for DuckDB {duckdb.__version__} in {folder}")
    database.load_extension(str(extension))
    seconds = max(1, round(settings.s3_timeout_seconds))
    database.execute(f"SET GLOBAL http_timeout = {seconds}")
    endpoint = settings.s3_endpoint or ""
    if is_loopback(endpoint):
        # The engine and the libcurl of its extension each read the environment.
        database.execute("SET GLOBAL http_proxy = ''")
        exclude_host(os.environ, urlsplit(endpoint).hostname or "")
    database.execute(_ACCESS, _values(settings))


_ACCESS = """
CREATE SECRET warehouse (
    TYPE s3, KEY_ID $key, SECRET $secret, REGION $region, ENDPOINT $endpoint, USE_SSL $ssl, URL_STYLE $style
)
"""


def _values(settings: IcebergSettings) -> dict[str, Any]:
    secret = settings.s3_secret_access_key
    address = urlsplit(settings.s3_endpoint or f"https://s3.{settings.s3_region}.amazonaws.com")
    virtual = settings.s3_virtual_hosts or settings.s3_endpoint is None
    return {
        "key": settings.s3_access_key_id or "",
        "secret": "" if secret is None else secret.get_secret_value(),
        "region": settings.s3_region,
        "endpoint": address.netloc,
        "ssl": address.scheme == "https",
        "style": "vhost" if virtual else "path",
    }
