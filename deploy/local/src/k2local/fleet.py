"""The five services as local processes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from k2local.probes import answers_ok
from k2local.process import Component
from k2local.settings import HOST, LocalSettings
from k2local.signing import signing_environment
from k2local.store import store_environment

SERVICES: Mapping[str, str] = {
    "ingest-gateway": "ingest_gateway",
    "csv-loader": "csv_loader",
    "iceberg-sink": "iceberg_sink",
    "query-service": "query_service",
    "replay-service": "replay_service",
}
"""Service and its package, in the order of their ports."""


def environment(settings: LocalSettings) -> Mapping[str, str]:
    """The settings that all services share."""
    folder = {
        "K2_ICEBERG__CATALOG_URI": f"sqlite:///{settings.home / 'catalog.db'}?timeout=30",
        "K2_ICEBERG__WAREHOUSE": (settings.home / "warehouse").as_uri(),
    }
    return {
        "K2_KAFKA__BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "K2_REGISTRY__URL": settings.registry_url,
        **(folder if settings.store_port is None else store_environment(settings)),
        "K2_GATEWAY__SPOOL": str(settings.home / "spool"),
        **signing_environment(settings.home),
    }


def service_url(settings: LocalSettings, name: str) -> str:
    """Address of the service `name`."""
    return f"http://{HOST}:{_port(settings, name)}"


def fleet_components(settings: LocalSettings) -> Sequence[Component]:
    """How to run each service."""
    return [
        Component(
            name=name,
            argv=[sys.executable, "-m", package],
            port=_port(settings, name),
            cwd=settings.home,
            log=settings.home / "logs" / f"{name}.log",
            ready=partial(answers_ok, f"{service_url(settings, name)}/readyz"),
            environ={**environment(settings), "K2_HTTP__PORT": str(_port(settings, name))},
            stop_seconds=30,
        )
        for name, package in SERVICES.items()
    ]


def _port(settings: LocalSettings, name: str) -> int:
    return settings.services_port + list(SERVICES).index(name)
