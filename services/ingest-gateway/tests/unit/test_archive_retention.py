"""Bytes leave the archive when every upload that has them is finished and old enough."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ingest_gateway.claims.claims import Claim
from ingest_gateway.receipts.tracker import Tracker
from ingest_gateway.uploads.archive_retention import Keeping, expired
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import SystemClock
from k2common.testing.iceberg import folder_catalog

from .test_receipts import claim

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MONTH = timedelta(days=30)


class Stopped(SystemClock):
    def now(self) -> datetime:
        return NOW


def held(sha256: str, *, age_days: int, state: str = "final", number: int = 0) -> Claim:
    known = Claim.from_avro(claim(state))
    upload_id = f"{known.upload.upload_id[:-2]}{number:02}"
    spec = replace(
        known.upload, sha256=sha256, received_at=NOW - timedelta(days=age_days), upload_id=upload_id
    )
    return replace(known, upload=spec)


@pytest.mark.parametrize(
    ("claims", "gone"),
    [
        ([held("a", age_days=31)], {"a"}),
        ([held("a", age_days=29)], set()),
        ([held("a", age_days=31), held("a", age_days=1)], set()),
        ([held("a", age_days=31, state="publishing")], set()),
        ([held("a", age_days=31), held("b", age_days=40), held("c", age_days=2)], {"a", "b"}),
    ],
)
def test_what_is_too_old(claims: list[Claim], gone: set[str]) -> None:
    assert expired(claims, before=NOW - MONTH) == gone


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    pool = Blocking(workers=1)
    yield pool
    pool.close()


async def test_a_sweep_removes_the_bytes_and_leaves_the_others(tmp_path: Path, blocking: Blocking) -> None:
    archive = Archive(open_catalog(folder_catalog(tmp_path)), root=f"file://{tmp_path}/archive")
    tracker = Tracker(Stopped())
    for number, (sha256, age_days) in enumerate((("aa" * 32, 31), ("bb" * 32, 3))):
        with archive.writer(sha256) as writer:
            writer.finish()
        tracker.on_claim(held(sha256, age_days=age_days, number=number).to_avro())
    keeping = Keeping(archive=archive, tracker=tracker, blocking=blocking, clock=Stopped(), days=30)
    await keeping.sweep()
    await keeping.sweep()
    assert [archive.holds("aa" * 32), archive.holds("bb" * 32)] == [False, True]
