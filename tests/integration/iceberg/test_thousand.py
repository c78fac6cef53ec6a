"""A thousand versions, almost none of whose snapshots live, in a table that was compacted again and again.

`K2_VERSIONS=1000` makes a thousand; without it there are 200, in the same mix.
"""

import os
import random
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import k2common.iceberg.versions.hidden_files as hidden_files
import pytest
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.maintenance.compaction import compact
from k2common.iceberg.maintenance.rewrite import NOTHING, Proof, live_files
from k2common.iceberg.reading.as_of import resolve
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import live_versions
from k2common.schemas.datasets import TRADES, VERSIONS
from k2common.testing.iceberg import START, append_trades, folder_catalog, record_version, trade_rows
from k2common.versions.hidden import HiddenUpload, Reason

MADE = int(os.environ.get("K2_VERSIONS", "200"))
LIVE = 30
LOOKED_AT = 50
SEED = 7
MINUTE = timedelta(minutes=1)
COLUMNS = tuple(sorted(trade_rows(0, 1).column_names))


class Model:
    """What each version shows, kept at the time: rows by upload, and uploads that are hidden."""

    def __init__(self) -> None:
        self.proofs: dict[str, Proof] = {}
        self.hidden: dict[str, HiddenUpload] = {}
        self.seen: dict[int, Proof] = {}
        self.offset = 0

    def shows(self) -> Proof:
        return sum((p for upload, p in self.proofs.items() if upload not in self.hidden), NOTHING)

    def uploads(self, *reasons: Reason) -> list[str]:
        """Those hidden for one of the reasons; without any the visible ones."""
        hidden = {u: entry.reason for u, entry in self.hidden.items()}
        if reasons:
            return [u for u, reason in hidden.items() if reason in reasons]
        return [u for u in self.proofs if u not in hidden]


def step(catalog: Catalog, model: Model, number: int, drawn: random.Random, retention: Retention) -> None:
    """One version: rows of a new upload, hidden or not, or only another visibility."""
    rows, upload = 0, f"U{number}"
    visible, loading = model.uploads(), model.uploads(Reason.LOADING)
    kind = drawn.choice(["rows", "rows", "load", "load", "replace", "show", "retract"])
    if kind == "show" and loading:
        del model.hidden[drawn.choice(loading)]
    elif kind == "retract" and visible:
        model.hidden[drawn.choice(visible)] = HiddenUpload(reason=Reason.RETRACTED)
    else:
        rows = drawn.randint(1, 20)
        if kind == "load":
            model.hidden[upload] = HiddenUpload(reason=Reason.LOADING)
        if kind == "replace" and visible:
            model.hidden[drawn.choice(visible)] = HiddenUpload(reason=Reason.REPLACED, by=upload)
    days = drawn.randint(1, 2)
    if rows:
        written = trade_rows(model.offset, rows, upload=upload, days=days)
        model.proofs[upload] = Proof.of(written.select(COLUMNS))
        model.offset += rows
    now = START + number * MINUTE
    hidden = dict(model.hidden)
    result = append_trades(
        catalog, rows, upload=upload, days=days, hidden=hidden, now=now, retention=retention
    )
    assert result.version.number == number
    record_version(catalog, result, retention=Retention(live=LIVE, recorded=lambda _: True))
    model.seen[number] = model.shows()


def made(catalog: Catalog, drawn: random.Random) -> Mapping[int, Proof]:
    """The versions; compaction every few of them."""
    model = Model()
    recorded = Retention(live=LIVE, recorded=lambda number: number in model.seen)
    for number in range(1, MADE + 1):
        step(catalog, model, number, drawn, recorded)
        if number % 20 == 0:
            for dataset in (TRADES, VERSIONS):
                compact(catalog, dataset.table, order=dataset.order, max_rows=1500, retention=recorded)
    return model.seen


def test_each_of_fifty_versions_reads_exactly_the_rows_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than usual, so that two hundred versions need several files of hidden uploads.
    monkeypatch.setattr(hidden_files, "MOST_IN_DOCUMENT", 10)
    catalog = open_catalog(folder_catalog(tmp_path))
    ensure_tables(catalog, [TRADES, VERSIONS])
    drawn = random.Random(SEED)
    seen = made(catalog, drawn)

    table = load_table(catalog, TRADES.table)
    assert len(table.metadata.snapshots) <= LIVE
    live = {found.version.number for found in live_versions(table.metadata)}
    assert len(live_files(table)) < MADE / 3
    old = [number for number in seen if number not in live]
    assert len(old) >= MADE - LIVE
    assert len(list(tmp_path.glob("**/hidden/market.trades/*.json"))) > 2
    # A reader of its own: nothing is known to it but what the tables say.
    reader = VersionReader(catalog)
    for number in [*drawn.sample(old, LOOKED_AT), MADE]:
        plan = reader.plan(reader.at(TRADES.table, number))
        rows = read_rows(catalog, plan, COLUMNS)
        assert (number, Proof.of(rows) if rows.num_rows else NOTHING) == (number, seen[number])
    for number in drawn.sample(old, 5):
        moment = (START + number * MINUTE + MINUTE / 2).isoformat()
        assert resolve(reader, moment, [TRADES.table]).versions[TRADES.table].number == number
