"""The scrub finds damage that nobody has asked for, at a bounded cost, and forgets it once it is healed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from k2common.errors import DataFault
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.maintenance.scrub import Scrubber
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog

from tests.integration.damage.flips import data_files, flipped, missing

ALL = 2**40


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    append_trades(found, 12, days=4)
    return found


def test_every_damaged_and_missing_file_is_found_and_healing_is_seen(catalog: Catalog) -> None:
    reported: list[DataFault] = []
    scrubber = Scrubber(catalog, TRADES.table, period_seconds=100, report=reported.append)
    first, second, *_ = data_files(catalog, TRADES.table)
    random = Random(9)
    for number in range(20):
        with flipped(first, random), missing(second):
            found = scrubber.scrub(now=1000.0 * number, max_bytes=ALL)
            assert (found.files, found.damaged, found.missing, found.due) == (4, 1, 1, 0)
            again = scrubber.scrub(now=1000.0 * number + 1, max_bytes=ALL)
            assert (again.files, again.damaged, again.missing) == (2, 1, 1)
        assert len(reported) == 2 * (number + 1), "each fault is reported once"
        healed = scrubber.scrub(now=1000.0 * number + 2, max_bytes=ALL)
        assert (healed.files, healed.damaged, healed.missing) == (2, 0, 0)


def test_a_pass_is_bounded_and_the_next_goes_on(catalog: Catalog) -> None:
    scrubber = Scrubber(catalog, TRADES.table, period_seconds=100)
    passes = [scrubber.scrub(now=float(n), max_bytes=1) for n in range(5)]
    assert [one.files for one in passes] == [1, 1, 1, 1, 0]
    assert [one.due for one in passes] == [3, 2, 1, 0, 0]
    assert scrubber.scrub(now=102.0, max_bytes=ALL, dry_run=True).due == 3
    assert scrubber.scrub(now=500.0, max_bytes=ALL, ended=lambda: True).files == 0


def test_a_file_without_a_digest_is_counted_and_its_pages_verified(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("k2common.iceberg.maintenance.scrub.digest_in", lambda _: None)
    monkeypatch.setattr("k2common.iceberg.files.verification.digest_in", lambda _: None)
    scrubber = Scrubber(catalog, TRADES.table, period_seconds=100)
    whole = scrubber.scrub(now=0.0, max_bytes=ALL)
    assert (whole.without_digest, whole.damaged) == (4, 0)
    path = data_files(catalog, TRADES.table)[0]
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 4
    path.write_bytes(damaged)
    assert scrubber.scrub(now=200.0, max_bytes=ALL).damaged == 1
