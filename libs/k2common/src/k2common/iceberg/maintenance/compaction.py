"""Many small files become few: size tiers per partition, so that a row is rewritten a few times at most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pyiceberg.catalog import Catalog

from k2common.errors import DataFault
from k2common.iceberg.catalogs.catalog import load_table
from k2common.iceberg.commits.commit import DEFAULT_ATTEMPTS
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.commits.table_totals import Totals
from k2common.iceberg.files.manifests import LiveFile
from k2common.iceberg.files.snapshot_writer import FilesGone
from k2common.iceberg.maintenance.rewrite import (
    MAX_BYTES,
    Bounds,
    commit_rewritten,
    live_files,
    packed,
    rewrite,
)
from k2common.iceberg.versions.documents import head_version

FAN_IN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a pass did; `seen` is the snapshot that it found nothing to merge in, if so.

    `totals` are of the table after its last commit.
    """

    groups: int = 0
    files: int = 0
    rows: int = 0
    seen: int | None = None
    totals: Totals | None = None


def choose(files: Sequence[LiveFile], *, bounds: Bounds, fan_in: int = FAN_IN) -> list[list[LiveFile]]:
    """Groups of files to merge, each of one partition and one tier of row counts, within the bounds.

    A tier is a factor of `fan_in` in rows; it is merged once it has so many files. Large files stay.
    """
    tiers: dict[tuple[str, int, int], list[LiveFile]] = defaultdict(list)
    for file in files:
        if not bounds.is_large(file):
            tiers[(file.partition, file.spec_id, _tier(file.record_count, fan_in))].append(file)
    groups = []
    for tier in tiers.values():
        if len(tier) >= fan_in:
            groups += [group for group in packed(tier, bounds) if len(group) > 1]
    return groups


def compact(
    catalog: Catalog,
    name: str,
    *,
    order: Sequence[str],
    max_rows: int,
    max_bytes: int = MAX_BYTES,
    retention: Retention | None = None,
    fan_in: int = FAN_IN,
    attempts: int = DEFAULT_ATTEMPTS,
    dry_run: bool = False,
    seen: int | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> Compacted:
    """One pass over a table; each group is a commit of its own, beside a running sink, until it is `ended`.

    A table whose head is still `seen` is left at once. The version stays. Holds the rows of one group in
    memory. Raises ProofFailed when rows would change, ForeignDeletes as `live_files`, DataDamaged or
    DataMissing once all groups without such a file are done, TransientError when the catalogue or the
    warehouse does not answer.
    """
    table, bounds = load_table(catalog, name), Bounds(rows=max_rows, bytes=max_bytes)
    snapshot_id = table.metadata.current_snapshot_id
    if head_version(table) is None or snapshot_id == seen:
        return Compacted(seen=seen)
    groups = choose(live_files(table), bounds=bounds, fan_in=fan_in)
    done = Compacted(seen=None if groups else snapshot_id)
    fault: DataFault | None = None
    for group in groups:
        if ended():
            break
        totals = None
        if not dry_run:
            try:
                rewritten = rewrite(group, table=table, order=order, bounds=bounds)
                totals = commit_rewritten(
                    catalog, table, group, rewritten, retention=retention, attempts=attempts
                ).totals
            except FilesGone:
                continue
            except DataFault as error:
                # The group stays as it is, so that no damage gets a fresh digest; the others go on.
                fault = error
                continue
        done = replace(
            done,
            groups=done.groups + 1,
            files=done.files + len(group),
            rows=done.rows + sum(file.record_count for file in group),
            totals=totals,
        )
    if fault is not None:
        raise fault
    return done


def _tier(rows: int, fan_in: int) -> int:
    tier = 0
    while rows >= fan_in:
        rows, tier = rows // fan_in, tier + 1
    return tier
