"""Lost data files are rebuilt from the archive, and every version answers as before the damage."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from k2common.provision import ProvisionSettings, provision
from k2common.schemas.datasets import REJECTS
from k2common.settings.load import load
from k2local.fleet import environment
from k2local.ports import free_port
from k2local.settings import LocalSettings
from k2local.stack import LocalStack

from tests.integration.damage.platform import Platform, open_platform
from tests.integration.damage.uploads import file_of

ROOT = Path(__file__).parents[3]
UPLOADS = 9
FLIPS = 8
PURGE_AFTER_SECONDS = 1.1
CODES = {"damaged": "DATA_DAMAGED", "missing": "DATA_MISSING"}


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    settings = LocalSettings(
        home=tmp_path_factory.mktemp("damage"),
        cache=Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")),
        base_port=free_port(4),
    )
    with LocalStack(settings):
        found = {
            **environment(settings),
            "K2_HTTP__PORT": "1",
            "K2_SINK__COMMIT_INTERVAL_SECONDS": "0.1",
            "K2_SINK__POLL_INTERVAL_SECONDS": "0.1",
            # Files are merged and rows purged by command alone.
            "K2_MAINTENANCE__COMPACT_INTERVAL_SECONDS": "3600",
            "K2_MAINTENANCE__PURGE_AFTER_SECONDS": "1",
        }
        asyncio.run(provision(load(ProvisionSettings, found)))
        yield found


@pytest.fixture
async def platform(environ: Mapping[str, str]) -> AsyncIterator[Platform]:
    async with open_platform(environ) as opened:
        yield opened


def flip(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    at = random.randrange(8 * len(data))
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def damage(path: Path, kind: str, random: Random) -> None:
    if kind == "missing":
        path.unlink()
    else:
        flip(path, random)


async def upload(platform: Platform, number: int) -> dict[str, Any]:
    content, parameters = file_of(number)
    receipt = await platform.upload(content, **parameters)
    assert receipt["state"] == "committed"
    assert receipt["rows"]["committed"] > 0
    return receipt


async def retract(platform: Platform, receipt: Mapping[str, Any]) -> None:
    path = f"/v1/uploads/{receipt['upload_id']}/retract"
    answer = await platform.gateway.post(path, params={"timeout": "30"})
    assert answer.json()["data"]["state"] == "retracted"


async def filled(platform: Platform, first: int) -> list[dict[str, Any]]:
    """Receipts of uploads in several layouts: one is retracted, one purged; all but the last are merged."""
    receipts = [await upload(platform, first + number) for number in range(UPLOADS)]
    await retract(platform, receipts[7])
    await asyncio.sleep(PURGE_AFTER_SECONDS)
    await platform.maintain("purge")
    await retract(platform, receipts[4])
    merged = await platform.maintain("compact")
    assert merged["figures"]["files"] >= 8
    return [*receipts, await upload(platform, first + UPLOADS)]


async def newest_version(platform: Platform) -> int:
    answer = await platform.query.get("/v1/trades", params={"symbols": "*", "limit": "1"})
    return int(answer.json()["meta"]["version"].removeprefix("trades@"))


async def healed(platform: Platform) -> None:
    """Return once the query service has looked at the catalogue again."""
    while True:
        if await platform.refusal() is None:
            return
        await asyncio.sleep(0.1)


async def answers(platform: Platform) -> list[bytes | None]:
    """What every version answers, None for those that a purge has made unreadable."""
    return [await platform.at(number) for number in range(1, await newest_version(platform) + 1)]


async def test_lost_files_are_rebuilt_and_every_version_answers_as_before(platform: Platform) -> None:
    receipts = await filled(platform, 0)
    assert {bool(r["rows"]["rejected"]) for r in receipts} == {True, False}
    assert {bool(r["rows"]["filtered"]) for r in receipts} == {True, False}
    before, rows = await answers(platform), platform.rows()
    assert sum(answer is not None for answer in before) >= UPLOADS
    cited = await platform.query.post("/v1/citations", json={"endpoint": "trades", "parameters": {}})
    random = Random(4)
    for kind, code in CODES.items():
        files = platform.files()
        for path in files:
            damage(path, kind, random)
        assert await platform.refusal() == code
        state = (platform.snapshot_id(), stored(platform))
        tried = await platform.maintain("repair", dry_run="true")
        assert tried["repairable"] == len(tried["files"]) == len(files), tried
        assert (platform.snapshot_id(), stored(platform)) == state

        done = await platform.maintain("repair")
        assert done["repaired"] == len(done["files"]) == len(files), done
        assert platform.rows().equals(rows), "hidden rows are as they were, purged ones stay away"
        await healed(platform)
        # A version that only passes the end of a transaction may have followed.
        assert (await answers(platform))[: len(before)] == before
        scrubbed = await platform.maintain("scrub")
        assert (scrubbed["figures"]["damaged"], scrubbed["figures"]["missing"]) == (0, 0)
        again = await platform.maintain("repair")
        assert (again["files"], again["verified"]) == ([], len(platform.files()))
    verified = await platform.query.post("/v1/citations/verify", json=cited.json()["data"])
    assert verified.json()["data"]["holds"]

    for _ in range(FLIPS):
        damage(random.choice(platform.files()), "damaged", random)
        done = await platform.maintain("repair")
        assert done["repaired"] == 1, done
        assert platform.rows().equals(rows)


async def test_without_the_archived_bytes_a_file_is_left_and_the_reason_said(platform: Platform) -> None:
    receipts = await filled(platform, 20)
    rows, rejects = platform.rows(), platform.rows(REJECTS.table)
    files = platform.files()
    for path in files:
        path.unlink()
    sha256 = receipts[-1]["sha256"]
    archived = platform.archive / sha256[:2] / f"{sha256}.zstd"
    kept = archived.rename(archived.with_suffix(".away"))
    snapshot_id = platform.snapshot_id()
    tried = await platform.maintain("repair", dry_run="true")
    assert platform.snapshot_id() == snapshot_id
    refused = [file for file in tried["files"] if file["state"] == "refused"]
    assert len(refused) == tried["refused"] == 2, "the two days of the last upload"
    for file in refused:
        assert f"upload {receipts[-1]['upload_id']}: the archive no longer holds its bytes" in file["reason"]

    # The others are repaired all the same, and these two as soon as the bytes are back.
    done = await platform.maintain("repair")
    assert (done["repaired"], done["refused"]) == (len(files) - 2, 2)
    snapshot_id = platform.snapshot_id()
    assert (await platform.maintain("repair"))["refused"] == 2
    assert platform.snapshot_id() == snapshot_id
    kept.rename(archived)
    done = await platform.maintain("repair")
    assert (done["repaired"], done["refused"]) == (2, 0)
    assert platform.rows().equals(rows)

    for path in platform.files(REJECTS.table):
        path.unlink()
    done = await platform.maintain("repair", table=REJECTS.table)
    assert done["refused"] == 0 < done["repaired"]
    assert platform.rows(REJECTS.table).equals(rejects)

    await platform.expire_statuses()
    for path in platform.files():
        path.unlink()
    done = await platform.maintain("repair")
    assert done["refused"] == 0 < done["repaired"], "receipts say where the rows of small uploads lie"
    assert platform.rows().equals(rows)


def stored(platform: Platform) -> list[Path]:
    """Every data file in the table's folder, whether the table names it or not."""
    return sorted((platform.archive.parent / "market" / "trades" / "data").rglob("*.parquet"))
