"""Old snapshots go; none whose version is not yet recorded, none that a branch or tag names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.commits.table_locks import turn
from k2common.iceberg.versions.documents import ancestry, head_of, tagged_version, version_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Keep at most `live` snapshots, but all from the oldest on whose version `recorded` does not know."""

    live: int
    recorded: Callable[[int], bool]


def expired(metadata: TableMetadata, retention: Retention, *, adding: int = 0) -> list[int]:
    """Ids of the snapshots in main's ancestry that may go, oldest first; the current one never.

    `adding` snapshots are about to join those that stay. None may go after a rollback until the sink has
    committed again: what main went back to would be lost, and with it where to go on reading.
    """
    head, tagged = head_of(metadata), tagged_version(metadata)
    if tagged is not None and (head is None or head.number < tagged.number):
        return []
    protected = {ref.snapshot_id for ref in metadata.refs.values()}
    chain = list(ancestry(metadata))
    surplus = []
    for snapshot in reversed(chain[max(1, retention.live - adding) :]):
        version = version_of(snapshot)
        if version is not None and not retention.recorded(version.number):
            break
        if snapshot.snapshot_id not in protected:
            surplus.append(snapshot.snapshot_id)
    return surplus


def removal(snapshot_ids: Sequence[int]) -> RemoveSnapshotsUpdate:
    """The update that takes the snapshots out of the table's metadata."""
    return RemoveSnapshotsUpdate.model_validate({"snapshot_ids": snapshot_ids})


def expire(catalog: Catalog, table: str, *, retention: Retention) -> list[int]:
    """Expire without a commit of rows; returns the ids of the snapshots that went, none on a conflict.

    Deletes no data: rows stay in the head. Raises TransientError when the catalogue does not answer.
    """
    with turn(catalog, table):
        loaded = load_table(catalog, table)
        gone = expired(loaded.metadata, retention)
        if not gone:
            return []
        requirements = (AssertTableUUID(uuid=loaded.metadata.table_uuid),)
        try:
            catalog.commit_table(loaded, requirements, (removal(gone),))
        except (CommitFailedException, ValueError):  # ValueError: another replica has just expired them
            return []
        except AWAY as error:
            raise TransientError(f"{table}: expiry has no known outcome: {error}") from error
        return gone
