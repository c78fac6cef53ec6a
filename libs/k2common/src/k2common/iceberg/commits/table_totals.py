"""What a table held with a snapshot, by the snapshot's own summary: nothing is read for it."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table.metadata import TableMetadata

from k2common.iceberg.versions.documents import entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Rows, data files and bytes of the table; `removed` rows left it for good with this snapshot.

    The figures add up what each snapshot's files hold, so they tell what is there and not what should be.
    """

    rows: int
    files: int
    bytes: int
    removed: int
    snapshots: int


def totals_of(metadata: TableMetadata, snapshot_id: int) -> Totals | None:
    """The totals; None for a snapshot that is not live, or one of an engine that does not add them up."""
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        return None

    def figure(name: str) -> int | None:
        text = entry(snapshot, name)
        return None if text is None else int(text)

    rows, files, size = (figure(f"total-{name}") for name in ("records", "data-files", "files-size"))
    if rows is None or files is None or size is None:
        return None
    added, deleted = figure("added-records") or 0, figure("deleted-records") or 0
    return Totals(
        rows=rows,
        files=files,
        bytes=size,
        removed=max(0, deleted - added) if deleted else 0,
        snapshots=len(metadata.snapshots),
    )
