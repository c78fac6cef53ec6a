"""Rows, offsets and visibility land in one snapshot, once, or not at all: compare and swap on the offsets.

A commit names the offsets that it started from. If the table's are others, another owner was there first and
the commit is refused. If only the snapshot moved (another engine, maintenance, a row-less commit), the change
is applied again to the new head's document. If the outcome is unknown, the table is asked for the commit id.
No file is ever deleted here, since a commit that seems lost may have landed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from k2common.errors import Fenced, TransientError
from k2common.iceberg.catalog import AWAY, load_table
from k2common.iceberg.documents import (
    COMMIT_ID_KEY,
    STATE_TAG,
    VERSION_KEY,
    entry,
    head_of,
    tagged_version,
    version_of,
)
from k2common.iceberg.expiry import Retention, expired, removal
from k2common.iceberg.snapshots import SnapshotWriter
from k2common.versions import TICK, Version

DEFAULT_ATTEMPTS = 8
Change = Callable[[Version | None], Version]
"""The version that follows the head's; pure, since a moved head has it applied again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One commit: the same object, with the same id, however often it is tried.

    `expected` holds the table's next offset, as read when the work began, of each partition whose offset
    `change` moves; None where the table had none. A row-less commit expects nothing. `removed` are paths of
    files that leave the table; with `same_version` the rows stay the same and so does the head's document,
    whatever `change` says. `origin` goes into the summary, such as k2.kafka-cluster.
    """

    table: str
    epoch: int
    change: Change
    expected: Mapping[int, int | None] = field(default_factory=dict)
    files: Sequence[DataFile] = ()
    removed: Set[str] = frozenset()
    same_version: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)
    commit_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """What became of a commit: everything that its announcement says."""

    version: Version
    snapshot_id: int
    metadata_location: str


def commit(
    catalog: Catalog,
    proposal: Proposal,
    *,
    retention: Retention | None = None,
    attempts: int = DEFAULT_ATTEMPTS,
) -> CommitResult:
    """Commit the proposal exactly once and expire what `retention` allows; returns when it is in the table.

    Raises Fenced when the table's offsets are not the expected ones: nothing was written, read them again.
    Raises FilesGone when the table no longer has a file that is to be removed. Raises TransientError when the
    outcome is still unknown after all attempts: the same proposal may be tried again, and a new one that
    starts from the table's offsets is safe.
    """
    writer = SnapshotWriter(files=proposal.files, removed=proposal.removed, same_rows=proposal.same_version)
    trouble: Exception | None = None
    for _ in range(attempts):
        table = load_table(catalog, proposal.table)
        landed = _landed(table, proposal.commit_id)
        if landed is not None:
            return landed
        version = next_version(table.metadata, proposal)
        try:
            return _try(catalog, table, proposal, version, writer, retention)
        except CommitFailedException as error:
            trouble = error  # the head moved
        except AWAY as error:
            trouble = error  # unknown; the next load tells
    landed = _landed(load_table(catalog, proposal.table), proposal.commit_id)
    if landed is not None:
        return landed
    raise TransientError(f"{proposal.table}: no commit after {attempts} attempts: {trouble}") from trouble


def next_version(metadata: TableMetadata, proposal: Proposal) -> Version:
    """The version that the proposal makes of this head.

    Its number and its time pass all that the ancestry and the tag have seen. Raises Fenced as `commit` does.
    """
    head, tagged = head_of(metadata), tagged_version(metadata)
    if proposal.same_version and head is not None:
        return head
    check_owner(head, proposal)
    version = replace(proposal.change(head), schema_id=metadata.current_schema_id)
    for seen in (head, tagged):
        if seen is not None:
            version = replace(
                version,
                number=max(version.number, seen.number + 1),
                committed_at=max(version.committed_at, seen.committed_at + TICK),
            )
    return version


def check_owner(head: Version | None, proposal: Proposal) -> None:
    """Raise Fenced unless the proposal started from the head's offsets."""
    epoch = proposal.epoch if head is None else head.epoch
    if proposal.epoch < epoch:
        raise Fenced(f"{proposal.table} is in epoch {epoch}, the commit in {proposal.epoch}")
    offsets = head.offsets if head is not None and head.epoch == proposal.epoch else {}
    moved = {p: offsets.get(p) for p, offset in proposal.expected.items() if offsets.get(p) != offset}
    if moved:
        raise Fenced(f"{proposal.table}: started from {dict(proposal.expected)}, the table has {moved}")


def _try(
    catalog: Catalog,
    table: Table,
    proposal: Proposal,
    version: Version,
    writer: SnapshotWriter,
    retention: Retention | None,
) -> CommitResult:
    summary = {**proposal.origin, VERSION_KEY: version.to_json(), COMMIT_ID_KEY: proposal.commit_id}
    snapshot = writer.snapshot(table, summary=summary)
    updates, requirements = guarded(table.metadata, snapshot)
    gone = expired(table.metadata, retention, adding=1) if retention is not None else []
    if gone:
        updates = (*updates, removal(gone))
    try:
        response = catalog.commit_table(table, requirements, updates)
    except ValueError as error:
        # So the library says that a snapshot to expire is gone already, or another branch moved.
        raise CommitFailedException(str(error)) from error
    _delete_old_metadata(table, response)
    return CommitResult(
        version=version, snapshot_id=snapshot.snapshot_id, metadata_location=response.metadata_location
    )


def guarded(
    metadata: TableMetadata, snapshot: Snapshot
) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
    """What adds the snapshot to main and the tag, on condition that both still are where they were read."""
    updates: list[TableUpdate] = [AddSnapshotUpdate(snapshot=snapshot)]
    requirements: list[TableRequirement] = [AssertTableUUID(uuid=metadata.table_uuid)]
    for name, kind in ((MAIN_BRANCH, "branch"), (STATE_TAG, "tag")):
        seen = metadata.refs.get(name)
        update = {"ref_name": name, "type": kind, "snapshot_id": snapshot.snapshot_id}
        updates.append(SetSnapshotRefUpdate.model_validate(update))
        if name != MAIN_BRANCH and not metadata.snapshots:
            continue  # the library refuses this guard on an empty table, and main's is enough there
        guard = {"ref": name, "snapshot_id": seen.snapshot_id if seen else None}
        requirements.append(AssertRefSnapshotId.model_validate(guard))
    return tuple(updates), tuple(requirements)


def _landed(table: Table, commit_id: str) -> CommitResult | None:
    for snapshot in table.metadata.snapshots:
        if entry(snapshot, COMMIT_ID_KEY) == commit_id:
            version = version_of(snapshot)
            if version is not None:
                return CommitResult(
                    version=version,
                    snapshot_id=snapshot.snapshot_id,
                    metadata_location=table.metadata_location,
                )
    return None


def _delete_old_metadata(table: Table, response: CommitTableResponse) -> None:
    """Delete the metadata files that have left the log; the library does so only in its own transactions."""
    if table.properties.get("write.metadata.delete-after-commit.enabled") != "true":
        return
    kept = {old.metadata_file for old in response.metadata.metadata_log}
    for old in table.metadata.metadata_log:
        if old.metadata_file not in kept:
            try:
                table.io.delete(old.metadata_file)
            except OSError:
                continue  # a leftover file harms nobody, and the commit has landed
