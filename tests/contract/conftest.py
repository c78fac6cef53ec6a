"""A fleet of its own with data in it: the tests here retract, delete and purge what they find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from k2common.testing.generator import asx_files
from k2local.testing import Fleet, running_fleet

ROOT = Path(__file__).parents[2]
TRADES = "ts_event,price,size,symbol\n"


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("fleet"), cache) as running:
        yield running


@pytest.fixture(scope="package")
def known(fleet: Fleet) -> dict[str, list[str]]:
    """Return names of what there is, by the path parameter that stands for it."""
    files = asx_files(2_000, seed=1)
    for path, content in files.items():
        fleet.upload(content, filename=Path(path).name, layout=_layout(path), source="asx", batch="contract")
    small = [f"{TRADES}2024-01-02T00:00:00Z,{n}.5,1,S{n}\nx,y,z,w\n".encode() for n in range(6)]
    uploads = [fleet.upload(file, dataset="trades", venue="XASX", batch="contract") for file in small]
    for name in ("eod-1", "eod-2", "eod-3"):
        assert fleet.call("POST", "iceberg-sink", "/v1/tags", params={"name": name}).is_success
    body = {"datasets": ["trades", "quotes"]}
    replays = [
        fleet.call("POST", "replay-service", "/v1/replays", json=body).json()["data"] for _ in range(4)
    ]
    return {
        "upload_id": [receipt["upload_id"] for receipt in uploads],
        "batch": ["contract"],
        "name": ["eod-1", "eod-2", "eod-3", "asx-trades"],
        "session_id": [replay["session_id"] for replay in replays],
        "symbol": ["S1", "7078"],
        "trading_date": ["2024-01-02", "2014-03-11"],
        "line": ["2", "3"],
    }


def _layout(path: str) -> str:
    return {"company_info.csv": "asx-company-info"}.get(path, f"asx-{path.partition('/')[0]}")
