"""Rows, offsets and visibility land in one snapshot, once, or not at all: compare and swap on the offsets.

A commit names the offsets that it started from. If the table's are others, another owner was there first and
the commit is refused. If only the snapshot moved (another engine, maintenance, a row-less commit), the change
is applied again to the new head's document. If the outcome is unknown, the table is asked for the commit id.
No file is ever deleted here, since a commit that seems lost may have landed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse, Table

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.commits.decision import Change, CommitLanded, Proposal, decide, guarded
from k2common.iceberg.commits.expiry import Retention, expired, removal
from k2common.iceberg.commits.table_locks import turn
from k2common.iceberg.commits.table_totals import Totals, totals_of
from k2common.iceberg.files.snapshot_writer import FilesGone, SnapshotWriter
from k2common.iceberg.versions.documents import COMMIT_ID_KEY, VERSION_KEY, origin_of
from k2common.iceberg.versions.hidden_files import hidden_files, store_hidden_uploads
from k2common.versions.version import Version

__all__ = ["Change", "CommitResult", "Proposal", "commit"]

DEFAULT_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """What became of a commit, everything that its announcement says, and how often it was tried."""

    version: Version
    snapshot_id: int
    metadata_location: str
    totals: Totals | None = None
    tries: int = 1


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
    if proposal.removed:
        # Before the turn, since it takes long and others' commits leave it as it is. What goes wrong here
        # goes wrong again below, where it is known whether the proposal has landed.
        with suppress(FilesGone, *AWAY):
            writer.prepare(load_table(catalog, proposal.table))
    trouble: Exception | None = None
    for tries, left in enumerate(reversed(range(attempts + 1))):
        with turn(catalog, proposal.table):
            table = load_table(catalog, proposal.table)
            decision = decide(table.metadata, proposal, hidden_files(catalog))
            if isinstance(decision, CommitLanded):
                return CommitResult(
                    version=decision.version,
                    snapshot_id=decision.snapshot_id,
                    metadata_location=table.metadata_location,
                    totals=totals_of(table.metadata, decision.snapshot_id),
                    tries=max(1, tries),
                )
            if not left:
                break
            try:
                result = _try(catalog, table, proposal, decision.version, writer, retention)
            except CommitFailedException as error:
                trouble = error  # the head moved
            except AWAY as error:
                trouble = error  # unknown; the next load tells
            else:
                return replace(result, tries=tries + 1)
    raise TransientError(f"{proposal.table}: no commit after {attempts} attempts: {trouble}") from trouble


def _try(
    catalog: Catalog,
    table: Table,
    proposal: Proposal,
    version: Version,
    writer: SnapshotWriter,
    retention: Retention | None,
) -> CommitResult:
    if not proposal.same_version:
        version = store_hidden_uploads(version, table)
    origin = {**origin_of(table.metadata), **proposal.origin}
    summary = {**origin, VERSION_KEY: version.to_json(), COMMIT_ID_KEY: proposal.commit_id}
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
        version=version,
        snapshot_id=snapshot.snapshot_id,
        metadata_location=response.metadata_location,
        totals=totals_of(response.metadata, snapshot.snapshot_id),
    )


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
