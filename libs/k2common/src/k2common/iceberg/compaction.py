"""Many small files become few: size tiers per partition, so that a row is rewritten a few times at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile

from k2common.iceberg.catalog import load_table
from k2common.iceberg.documents import head_version
from k2common.iceberg.expiry import Retention
from k2common.iceberg.rewriting import commit_rewritten, live_files, packed, rewrite
from k2common.iceberg.snapshots import FilesGone

FAN_IN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a pass did."""

    groups: int = 0
    files: int = 0
    rows: int = 0


def choose(files: Sequence[DataFile], *, max_rows: int, fan_in: int = FAN_IN) -> list[list[DataFile]]:
    """Groups of files to merge, each of one partition and one tier of row counts, at most `max_rows` in all.

    A tier is a factor of `fan_in` in rows; it is merged once it has so many files. A file that has half of
    `max_rows` is large enough.
    """
    tiers: dict[tuple[str, int, int], list[DataFile]] = defaultdict(list)
    for file in files:
        if 2 * file.record_count < max_rows:
            tiers[(repr(file.partition), file.spec_id, _tier(file.record_count, fan_in))].append(file)
    groups = []
    for tier in tiers.values():
        if len(tier) >= fan_in:
            groups += [group for group in packed(tier, max_rows) if len(group) > 1]
    return groups


def compact(
    catalog: Catalog,
    name: str,
    *,
    order: Sequence[str],
    max_rows: int,
    retention: Retention | None = None,
    fan_in: int = FAN_IN,
    dry_run: bool = False,
) -> Compacted:
    """One pass over a table; each group is a commit of its own, beside a running sink.

    The version stays. Holds the rows of one group in memory. Raises ProofFailed when rows would change,
    TransientError when the catalogue or the warehouse does not answer.
    """
    table = load_table(catalog, name)
    head = head_version(table)
    if head is None:
        return Compacted()
    done = Compacted()
    for group in choose(live_files(table), max_rows=max_rows, fan_in=fan_in):
        if not dry_run:
            rewritten = rewrite(group, table=table, order=order)
            try:
                commit_rewritten(catalog, table, group, rewritten, retention=retention)
            except FilesGone:
                continue
        done = Compacted(
            groups=done.groups + 1,
            files=done.files + len(group),
            rows=done.rows + sum(file.record_count for file in group),
        )
    return done


def _tier(rows: int, fan_in: int) -> int:
    tier = 0
    while rows >= fan_in:
        rows, tier = rows // fan_in, tier + 1
    return tier
