"""No bit of a data file can turn without every answer that needs the file being refused by name."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import k2common.iceberg.versions.hidden_files as hidden_files
import pytest
from k2common.errors import DataDamaged, DataMissing
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.files.lru import Recent
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.generator import quotes_csv, trades_csv
from k2common.testing.ticks import append, rows_of
from k2common.versions.hidden import HiddenUpload, Reason

from tests.integration.answers.house import House, open_house
from tests.integration.damage.flips import data_files, flipped, missing

FLIPS = 64
STREAMS = (0, 2, 3)
FAST = 6
"""Routes that need no process of their own and few queries."""
RANGE = {"symbols": "*", "start": "2000-01-01", "end": "2100-01-01"}
ROUTES = (
    ("/v1/trades", {**RANGE, "format": "ndjson"}),
    ("/v1/trades", {**RANGE, "format": "json", "limit": "10000"}),
    ("/v1/trades", {**RANGE, "format": "csv"}),
    ("/v1/trades", {**RANGE, "format": "parquet"}),
    ("/v1/bars", {**RANGE, "timeframe": "1Day"}),
    ("/v1/joins/trades-quotes", RANGE),
    ("/v1/datasets/trades/condition", {"start_date": "2026-01-01", "end_date": "2026-12-31"}),
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        for number in range(3):
            for dataset, text in (
                (TRADES, trades_csv(300, seed=number, symbols=3, days=2)),
                (QUOTES, quotes_csv(300, seed=number, symbols=3, days=2)),
            ):
                append(opened.catalog, dataset, rows_of(text, upload=f"U{number}", offset=300 * number))
                opened.reader.refresh(dataset.table)
        yield opened


async def ask(house: House, number: int) -> httpx.Response | None:
    """The answer of one of the routes, or of SQL; None for a connection that was cut off."""
    if number == len(ROUTES):
        return await house.sql("SELECT * FROM trades ORDER BY ALL", limit=10_000)
    path, parameters = ROUTES[number]
    transport = httpx.ASGITransport(house.app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://k2", timeout=120) as http:
        try:
            return await http.get(path, params=parameters)
        except RuntimeError as error:
            assert "response already started" in str(error)  # noqa: PT017 - any other error is a failure
            return None


def rows_in(answer: httpx.Response) -> str:
    """A digest of what was answered but for the times and ids of the request."""
    if answer.headers["Content-Type"].startswith("application/json"):
        return hashlib.sha256(repr(answer.json()["data"]).encode()).hexdigest()
    return hashlib.sha256(answer.content).hexdigest()


def is_refused(answer: httpx.Response, code: str, path: Path) -> None:
    """503 by its own code, which names the table and its version, no path and no SQL."""
    assert answer.status_code == 503, answer.text[:500]
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    assert "market.trades@3" in problem["detail"]
    assert path.name not in answer.text
    assert "/data/" not in answer.text
    assert "SELECT" not in answer.text
    assert int(answer.headers["Retry-After"]) > 0


async def test_single_bits_that_turn_are_never_answered(house: House) -> None:
    random = Random(20260302)
    routes = range(FAST)
    want = []
    for number in routes:
        answer = await ask(house, number)
        assert answer is not None
        assert answer.status_code == 200, answer.text[:500]
        want.append(rows_in(answer))
    files = data_files(house.catalog, TRADES.table)
    cut = 0
    for flip in range(FLIPS):
        number, path = flip % len(routes), files[flip // len(routes) % len(files)]
        with flipped(path, random):
            answer = await ask(house, number)
            if answer is None:
                cut += 1
            else:
                is_refused(answer, "DATA_DAMAGED", path)
        healed = await ask(house, number)
        assert healed is not None
        assert rows_in(healed) == want[number]
    assert 0 < cut < FLIPS // 2, "what is found before the first byte has a status"


async def test_sql_and_the_quality_of_days_are_refused_too(house: House) -> None:
    random = Random(3)
    for path in data_files(house.catalog, TRADES.table)[:2]:
        for number in range(FAST, len(ROUTES) + 1):
            with flipped(path, random):
                answer = await ask(house, number)
            assert answer is not None
            is_refused(answer, "DATA_DAMAGED", path)


async def test_a_file_that_is_missing_is_named_so(house: House) -> None:
    for path in data_files(house.catalog, TRADES.table)[:2]:
        for number in range(FAST):
            with missing(path):
                answer = await ask(house, number)
            if answer is not None:
                is_refused(answer, "DATA_MISSING", path)


async def test_damage_of_one_file_leaves_answers_that_do_not_need_it(house: House) -> None:
    (path, *_) = data_files(house.catalog, QUOTES.table)
    with flipped(path, Random(1)):
        answer = await ask(house, 0)
        assert answer is not None
        assert answer.status_code == 200


async def test_a_footer_in_doubt_is_not_planned_with(house: House) -> None:
    """A cold reader plans by footers before it reads rows: a turned offset would hide or show rows."""
    path = data_files(house.catalog, TRADES.table)[0]
    whole = path.read_bytes()
    at = whole.rindex(b"k2.offsets") + len(b"k2.offsets")
    damaged = bytearray(whole)
    damaged[at + 12] ^= 1
    path.write_bytes(damaged)
    answer = await house.http.get("/v1/trades", params={**RANGE, "format": "ndjson"})
    is_refused(answer, "DATA_DAMAGED", path)


@pytest.mark.parametrize("pattern", ["*-m0.avro", "snap-*.avro"])
async def test_manifests_are_verified_too(house: House, pattern: str) -> None:
    folder = data_files(house.catalog, TRADES.table)[0].parents[2] / "metadata"
    newest = max(folder.glob(pattern), key=lambda path: path.stat().st_mtime_ns)
    random = Random(7)
    for _ in range(20):
        with flipped(newest, random):
            async with open_house(folder.parents[2]) as other:
                answer = await other.http.get("/v1/trades", params={**RANGE, "format": "ndjson"})
                assert answer.status_code == 503, answer.text[:300]
                assert answer.json()["code"] == "DATA_DAMAGED"
                assert "market.trades" in answer.json()["detail"]


async def test_metadata_that_is_no_metadata_is_refused_by_name(house: House) -> None:
    folder = data_files(house.catalog, TRADES.table)[0].parents[2] / "metadata"
    newest = max(folder.glob("*.metadata.json"), key=lambda path: path.stat().st_mtime_ns)
    whole = newest.read_bytes()
    for content, kind in ((whole[: len(whole) // 2], DataDamaged), (None, DataMissing)):
        if content is None:
            newest.unlink()
        else:
            newest.write_bytes(content)
        # The running catalogue has parsed the file already; another process has not.
        with pytest.raises(kind, match=r"market\.trades") as met:
            load_table(open_catalog(house.iceberg), TRADES.table)
        assert "metadata.json" not in str(met.value)


async def test_a_list_of_hidden_uploads_that_turned_shows_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"R{n:04}": HiddenUpload(reason=Reason.RETRACTED) for n in range(150)}
    house.offsets["trades"] = 900
    house.add("trades", [], hidden={**many, "U1": HiddenUpload(reason=Reason.RETRACTED)})
    (path,) = (Path(house.iceberg.archive_root.removeprefix("file://")) / "hidden").rglob("*.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"U1"', b'"U3"'))
    monkeypatch.setattr(hidden_files, "_kept", Recent(limit=32))
    folder = Path(house.iceberg.warehouse.removeprefix("file://"))
    async with open_house(folder) as other:
        answer = await other.http.get("/v1/trades", params=RANGE)
        assert answer.status_code == 503
        assert answer.json()["code"] == "DATA_DAMAGED"
