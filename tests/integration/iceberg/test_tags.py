"""A tag names versions until somebody moves or deletes it; `as_of` takes it, and snapshots' ids."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from k2common.errors import RecordError, TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.reading.as_of import resolve
from k2common.iceberg.reading.reader import UnknownVersion, VersionReader
from k2common.iceberg.reading.tags import Tags
from k2common.schemas.datasets import QUOTES, TAGS, TRADES
from k2common.testing.iceberg import START, append_trades, folder_catalog

HOUR = timedelta(hours=1)
TABLES = (TRADES.table, QUOTES.table)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    return found


def token_of(reader: VersionReader, text: str, tables: Sequence[str]) -> str | None:
    return resolve(reader, text, tables).token


def put_many(home: str, name: str, count: int) -> None:
    tags = Tags(open_catalog(folder_catalog(Path(home))))
    for number in range(1, count + 1):
        while tags.find(f"{name}-{number}") is None:
            with suppress(TransientError):  # others were faster each time
                tags.put(f"{name}-{number}", f"trades@{number}", now=START)


def test_the_newest_change_of_a_name_holds(catalog: Catalog) -> None:
    tags = Tags(catalog)
    assert (tags.all(), tags.find("eod")) == ([], None)
    tags.put("eod", "trades@1", now=START)
    tags.put("backtest-7", "quotes@3,trades@1", now=START)
    tags.put("eod", "trades@2", now=START + HOUR)
    assert [(tag.name, tag.token) for tag in tags.all()] == [
        ("backtest-7", "quotes@3,trades@1"),
        ("eod", "trades@2"),
    ]
    tags.put("eod", None, now=START + 2 * HOUR)
    assert tags.find("eod") is None
    # Another process sees the same.
    assert [tag.name for tag in Tags(catalog).all()] == ["backtest-7"]


def test_a_change_that_is_made_already_is_not_made_again(catalog: Catalog) -> None:
    tags = Tags(catalog)
    tags.put("gone", None, now=START)
    assert load_table(catalog, TAGS.table).current_snapshot() is None
    first = tags.put("eod", "trades@1", now=START)
    assert tags.put("eod", "trades@1", now=START + HOUR) == first
    assert load_table(catalog, TAGS.table).scan().count() == 1


def test_changes_at_once_are_each_made_once(catalog: Catalog, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: put_many(str(tmp_path), name, 6), ("a", "b", "c")))
    rows = load_table(catalog, TAGS.table).scan().to_arrow()
    assert sorted(rows["kafka_offset"].to_pylist()) == list(range(18))
    assert len(Tags(catalog).all()) == 18


def test_no_tag_can_be_taken_for_a_token_a_time_or_a_snapshot(catalog: Catalog) -> None:
    for name in ("", "2026-01-01", "123", "trades@1", "a b", "a/b", "a" * 101, "\u00e4"):
        with pytest.raises(RecordError):
            Tags(catalog).put(name, "trades@1", now=START)


def test_as_of_takes_a_tag(catalog: Catalog) -> None:
    append_trades(catalog, 10)
    append_trades(catalog, 10)
    reader = VersionReader(catalog)
    Tags(catalog).put("eod", "trades@1", now=START)
    assert token_of(reader, "eod", TABLES) == "trades@1"
    with pytest.raises(RecordError, match="names no version"):
        resolve(reader, "eod", [QUOTES.table])
    Tags(catalog).put("eod", "trades@2", now=START)
    assert token_of(reader, "eod", TABLES) == "trades@2"
    Tags(catalog).put("eod", None, now=START)
    with pytest.raises(UnknownVersion):
        resolve(reader, "eod", TABLES)


def test_as_of_takes_a_snapshot_and_tells_it_from_a_time(catalog: Catalog) -> None:
    first = append_trades(catalog, 10, now=START)
    second = append_trades(catalog, 10, now=START + HOUR)
    reader = VersionReader(catalog)
    assert token_of(reader, str(first.snapshot_id), TABLES) == "trades@1"
    assert token_of(reader, str(second.snapshot_id), reversed_tables()) == "trades@2"
    between = int((START + HOUR / 2).timestamp()) * 10**9
    assert token_of(reader, str(between), TABLES) == "trades@1"
    late = resolve(reader, str(int((START + 30 * 24 * HOUR).timestamp()) * 10**9), TABLES)
    assert late.provisional
    assert token_of(reader, "2026-04-01", TABLES) == "trades@2"
    with pytest.raises(UnknownVersion, match="no snapshot"):
        resolve(reader, str(2**63 - 1), TABLES)


def reversed_tables() -> list[str]:
    return [QUOTES.table, TRADES.table]


def test_a_snapshot_of_maintenance_shows_the_version_it_was_made_upon(catalog: Catalog) -> None:
    for _ in range(8):
        append_trades(catalog, 5)
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=1000)
    snapshot_id = load_table(catalog, TRADES.table).metadata.current_snapshot_id
    assert token_of(VersionReader(catalog), str(snapshot_id), TABLES) == "trades@8"
