"""What to do with a commit, given the table's metadata: pure, so that a model can try every order of events.

A proposal is in the table already, or may be tried as a certain version, or is refused because another owner
was there first. Whatever becomes of a try, a lost race or no answer, the next step is the same: load the
table and decide again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pyiceberg.manifest import DataFile
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

from k2common.errors import Fenced, SetupError
from k2common.iceberg.versions.documents import (
    COMMIT_ID_KEY,
    STATE_TAG,
    entry,
    head_of,
    is_lost,
    tagged_version,
    version_of,
)
from k2common.versions.hidden import AmendedHiddenUploads, Files, unread
from k2common.versions.version import TICK, Version, merge_spans

Change: TypeAlias = Callable[[Version | None], Version]
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
class CommitLanded:
    """The proposal is in the table."""

    version: Version
    snapshot_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The proposal makes this version, if the table still is as it was read."""

    version: Version


def decide(metadata: TableMetadata, proposal: Proposal, files: Files = unread) -> CommitLanded | Attempt:
    """What to do with the proposal, whatever was tried before; `files` are for what the head hides.

    Raises Fenced when the table's offsets are not the expected ones, SetupError when main was rolled back to
    where no version is known.
    """
    for snapshot in metadata.snapshots:
        if entry(snapshot, COMMIT_ID_KEY) == proposal.commit_id:
            version = version_of(snapshot, files)
            if version is not None:
                return CommitLanded(version=version, snapshot_id=snapshot.snapshot_id)
    return Attempt(version=next_version(metadata, proposal, files))


def next_version(metadata: TableMetadata, proposal: Proposal, files: Files = unread) -> Version:
    """The version that the proposal makes of this head.

    Its number and its time pass all that the ancestry and the tag have seen; versions that main was rolled
    back from are gone, since their rows will come again under other versions. Raises what `decide` raises.
    """
    if is_lost(metadata):
        raise SetupError(f"{proposal.table}: main was rolled back to where no version is known")
    head, tagged = head_of(metadata, files), tagged_version(metadata)
    last = 0 if head is None else head.number
    rolled_back = tagged is not None and tagged.number > last
    if proposal.same_version and head is not None and not rolled_back:
        return head
    check_owner(head, proposal)
    version = replace(proposal.change(head), schema_id=metadata.current_schema_id)
    if head is not None and isinstance(head.hidden, AmendedHiddenUploads):
        version = replace(version, hidden=head.hidden.amended(version.hidden))
    for seen in (head, tagged):
        if seen is not None:
            version = replace(
                version,
                number=max(version.number, seen.number + 1),
                committed_at=max(version.committed_at, seen.committed_at + TICK),
            )
    if tagged is not None and rolled_back:
        gone = (*version.gone, *tagged.gone, (last + 1, tagged.number))
        version = replace(version, gone=merge_spans(gone))
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
