"""The files of a snapshot: one manifest of added files, the parent's manifests without the removed ones, one
list of all.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass

from pyiceberg.manifest import (
    UNASSIGNED_SEQ,
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)

from k2common.iceberg.files.avro_files import MemoryOutput, manifests_of
from k2common.iceberg.files.manifests import COMPRESSION, entries_of, files_of, merged, write_entries


class FilesGone(Exception):
    """Files that were to be removed are no longer in the table: other maintenance was faster."""


class SnapshotWriter:
    """Writes the snapshot of one commit; each call builds on the table as given, under the same snapshot id.

    The manifest of the added files is written once, and so are those without the removed files as long as
    the manifests that named them stay. Every call writes a manifest list of its own, so that no attempt can
    spoil another that has landed.
    """

    def __init__(
        self, *, files: Sequence[DataFile], removed: Set[str] = frozenset(), same_rows: bool = False
    ) -> None:
        """`removed` are paths; `same_rows` says that the files hold the rows of the removed ones."""
        self._files = files
        self._removed = removed
        self._same_rows = same_rows
        self._snapshot_id: int | None = None
        self._added: list[ManifestFile] | None = None
        self._rewritten: _Rewritten | None = None

    def snapshot(self, table: Table, *, summary: Mapping[str, str]) -> Snapshot:
        """A snapshot on top of main, not yet in the table.

        Raises FilesGone when main does not have a file that is to be removed.
        """
        metadata = table.metadata
        snapshot_id = self._id(table)
        if self._added is None:
            self._added = self._write_added(table)
        parent = table.current_snapshot()
        kept, removed = self._without_removed(_inherited(table), table)
        manifests = [*self._added, *merged(kept, table=table, snapshot_id=snapshot_id)]
        fields = {
            "snapshot_id": snapshot_id,
            "parent_snapshot_id": None if parent is None else parent.snapshot_id,
            "sequence_number": metadata.next_sequence_number(),
            "timestamp_ms": max(time.time_ns() // 1_000_000, metadata.last_updated_ms),
            "manifest_list": self._write_list(table, manifests, parent=parent),
            "summary": self._summary(metadata, removed, parent=parent, entries=summary),
            "schema_id": metadata.current_schema_id,
        }
        return Snapshot.model_validate(fields)

    def prepare(self, table: Table) -> None:
        """Write the manifests without the removed files already: `snapshot` takes them if they still fit.

        Raises FilesGone.
        """
        self._without_removed(_inherited(table), table)

    def _without_removed(
        self, manifests: Sequence[ManifestFile], table: Table
    ) -> tuple[list[ManifestFile], Sequence[DataFile]]:
        if not self._removed:
            return list(manifests), ()
        kept: list[ManifestFile] = []
        hit: list[ManifestFile] = []
        name = ".".join(table.name())
        for manifest in manifests:
            files = (
                files_of(manifest, table.io, table=name) if manifest.content == ManifestContent.DATA else ()
            )
            (hit if any(file.file_path in self._removed for file in files) else kept).append(manifest)
        of = frozenset(manifest.manifest_path for manifest in hit)
        if self._rewritten is None or self._rewritten.of != of:
            self._rewritten = self._rewrite(hit, of, table)
        return [*kept, *self._rewritten.manifests], self._rewritten.removed

    def _rewrite(self, hit: Sequence[ManifestFile], of: Set[str], table: Table) -> _Rewritten:
        by_spec: dict[int, list[ManifestEntry]] = defaultdict(list)
        for manifest in hit:
            by_spec[manifest.partition_spec_id] += entries_of(
                manifest, table.io, table=".".join(table.name())
            )
        removed = [
            entry.data_file
            for entries in by_spec.values()
            for entry in entries
            if entry.data_file.file_path in self._removed
        ]
        if missing := self._removed - {file.file_path for file in removed}:
            raise FilesGone(f"{len(missing)} of {len(self._removed)} files are gone")
        written: list[ManifestFile] = []
        for spec_id, entries in by_spec.items():
            written += write_entries(
                entries,
                table=table,
                snapshot_id=self._id(table),
                removed=self._removed,
                spec_id=spec_id,
            )
        return _Rewritten(of=of, manifests=written, removed=removed)

    def _id(self, table: Table) -> int:
        if self._snapshot_id is None:
            self._snapshot_id = table.metadata.new_snapshot_id()
        return self._snapshot_id

    def _write_added(self, table: Table) -> list[ManifestFile]:
        entries = [
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=self._id(table),
                sequence_number=None,
                file_sequence_number=None,
                data_file=data_file,
            )
            for data_file in self._files
        ]
        return write_entries(entries, table=table, snapshot_id=self._id(table))

    def _write_list(self, table: Table, manifests: Sequence[ManifestFile], *, parent: Snapshot | None) -> str:
        output = MemoryOutput()
        with write_manifest_list(
            format_version=table.metadata.format_version,
            output_file=output,
            snapshot_id=self._id(table),
            parent_snapshot_id=None if parent is None else parent.snapshot_id,
            sequence_number=table.metadata.next_sequence_number(),
            avro_compression=COMPRESSION,
        ) as writer:
            # The library notes the sequence number in the manifests given; the next try has another one.
            writer.add_manifests([_unmarked(manifest) for manifest in manifests])
        return output.store(table, f"snap-{self._id(table)}-", ".avro")

    def _summary(
        self,
        metadata: TableMetadata,
        removed: Sequence[DataFile],
        *,
        parent: Snapshot | None,
        entries: Mapping[str, str],
    ) -> Summary:
        collector = SnapshotSummaryCollector()
        for data_file in self._files:
            collector.add_file(data_file, schema=metadata.schema(), partition_spec=metadata.spec())
        for data_file in removed:
            collector.remove_file(data_file, schema=metadata.schema(), partition_spec=metadata.spec())
        before = None
        if parent is not None and parent.summary is not None:
            before = parent.summary.additional_properties
        operation = Operation.OVERWRITE if removed else Operation.APPEND
        summary = Summary(operation=operation, **collector.build(), **entries)
        found = update_snapshot_summaries(summary, before)
        # The library adds up totals for the other operations alone.
        return found.model_copy(update={"operation": Operation.REPLACE}) if self._same_rows else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rewritten:
    """The manifests `of` these paths without the removed files, and those files."""

    of: Set[str]
    manifests: Sequence[ManifestFile]
    removed: Sequence[DataFile]


def _unmarked(manifest: ManifestFile) -> ManifestFile:
    return deepcopy(manifest) if manifest.sequence_number == UNASSIGNED_SEQ else manifest


def _inherited(table: Table) -> list[ManifestFile]:
    parent = table.current_snapshot()
    # What only says which files left is of no use to later snapshots.
    found = manifests_of(parent, table)
    return [m for m in found if m.has_added_files() or m.has_existing_files()]
