"""The files of a snapshot: one manifest of added files, the parent's manifests without the removed ones, one
list of all.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Literal

from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
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

from k2common.iceberg.manifests import entries_of, files_of

SMALL_MANIFEST_BYTES = 1024 * 1024
COMPRESSION: Literal["deflate"] = "deflate"
MERGE_AT = 100
"""So many small manifests are merged into one: the list is written anew by each commit."""


class FilesGone(Exception):
    """Files that were to be removed are no longer in the table: other maintenance was faster."""


class SnapshotWriter:
    """Writes the snapshot of one commit; each call builds on the table as given, under the same snapshot id.

    The manifest of the added files is written once. Every call writes a manifest list of its own, so that no
    attempt can spoil another that has landed.
    """

    def __init__(
        self, *, files: Sequence[DataFile], removed: Set[str] = frozenset(), same_rows: bool = False
    ) -> None:
        """`removed` are paths; `same_rows` says that the files hold the rows of the removed ones."""
        self._files = files
        self._removed = removed
        self._same_rows = same_rows
        self._snapshot_id = 0
        self._added: list[ManifestFile] | None = None

    def snapshot(self, table: Table, *, summary: Mapping[str, str]) -> Snapshot:
        """A snapshot on top of main, not yet in the table.

        Raises FilesGone when main does not have a file that is to be removed.
        """
        metadata = table.metadata
        if self._added is None:
            self._snapshot_id = metadata.new_snapshot_id()
            self._added = self._write_added(table)
        parent = table.current_snapshot()
        inherited = [] if parent is None else [m for m in parent.manifests(table.io) if _has_files(m)]
        kept, removed = self._without_removed(inherited, table)
        manifests = [*self._added, *merged(kept, table=table, snapshot_id=self._snapshot_id)]
        fields = {
            "snapshot_id": self._snapshot_id,
            "parent_snapshot_id": None if parent is None else parent.snapshot_id,
            "sequence_number": metadata.next_sequence_number(),
            "timestamp_ms": max(time.time_ns() // 1_000_000, metadata.last_updated_ms),
            "manifest_list": self._write_list(table, manifests, parent=parent),
            "summary": self._summary(metadata, removed, parent=parent, entries=summary),
            "schema_id": metadata.current_schema_id,
        }
        return Snapshot.model_validate(fields)

    def _without_removed(
        self, manifests: Sequence[ManifestFile], table: Table
    ) -> tuple[list[ManifestFile], list[DataFile]]:
        if not self._removed:
            return list(manifests), []
        kept: list[ManifestFile] = []
        hit: dict[int, list[ManifestEntry]] = defaultdict(list)
        for manifest in manifests:
            files = files_of(manifest, table.io) if manifest.content == ManifestContent.DATA else ()
            if any(file.file_path in self._removed for file in files):
                hit[manifest.partition_spec_id] += entries_of(manifest, table.io)
            else:
                kept.append(manifest)
        removed = [
            entry.data_file
            for entries in hit.values()
            for entry in entries
            if entry.data_file.file_path in self._removed
        ]
        if missing := self._removed - {file.file_path for file in removed}:
            raise FilesGone(f"{len(missing)} of {len(self._removed)} files are gone")
        for spec_id, entries in hit.items():
            kept += write_entries(
                entries, table=table, snapshot_id=self._snapshot_id, removed=self._removed, spec_id=spec_id
            )
        return kept, removed

    def _write_added(self, table: Table) -> list[ManifestFile]:
        entries = [
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=self._snapshot_id,
                sequence_number=None,
                file_sequence_number=None,
                data_file=data_file,
            )
            for data_file in self._files
        ]
        return write_entries(entries, table=table, snapshot_id=self._snapshot_id)

    def _write_list(self, table: Table, manifests: Sequence[ManifestFile], *, parent: Snapshot | None) -> str:
        name = f"snap-{self._snapshot_id}-{uuid.uuid4()}.avro"
        path = table.location_provider().new_metadata_location(name)
        with write_manifest_list(
            format_version=table.metadata.format_version,
            output_file=table.io.new_output(path),
            snapshot_id=self._snapshot_id,
            parent_snapshot_id=None if parent is None else parent.snapshot_id,
            sequence_number=table.metadata.next_sequence_number(),
            avro_compression=COMPRESSION,
        ) as writer:
            writer.add_manifests(list(manifests))
        return path

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


def _has_files(manifest: ManifestFile) -> bool:
    # What only says which files left is of no use to later snapshots.
    return manifest.has_added_files() or manifest.has_existing_files()


def merged(manifests: Sequence[ManifestFile], *, table: Table, snapshot_id: int) -> list[ManifestFile]:
    """The same entries in fewer manifests, once there are many small ones of the table's partition spec."""
    spec_id = table.metadata.default_spec_id
    small = [
        m
        for m in manifests
        if m.content == ManifestContent.DATA
        and m.partition_spec_id == spec_id
        and m.manifest_length < SMALL_MANIFEST_BYTES
    ]
    if len(small) < MERGE_AT:
        return list(manifests)
    paths = {m.manifest_path for m in small}
    entries = [entry for manifest in small for entry in entries_of(manifest, table.io)]
    return [
        *write_entries(entries, table=table, snapshot_id=snapshot_id),
        *(m for m in manifests if m.manifest_path not in paths),
    ]


def write_entries(
    entries: Sequence[ManifestEntry],
    *,
    table: Table,
    snapshot_id: int,
    removed: Set[str] = frozenset(),
    spec_id: int | None = None,
) -> list[ManifestFile]:
    """One manifest, or none for no entries; all are of one partition spec, the table's own without `spec_id`.

    An entry of another snapshot goes in as existing, one of a removed path as deleted.
    """
    if not entries:
        return []
    path = table.location_provider().new_metadata_location(f"{uuid.uuid4()}-m0.avro")
    with write_manifest(
        format_version=table.metadata.format_version,
        spec=table.spec() if spec_id is None else table.specs()[spec_id],
        schema=table.schema(),
        output_file=table.io.new_output(path),
        snapshot_id=snapshot_id,
        avro_compression=COMPRESSION,
    ) as writer:
        for entry in entries:
            if entry.data_file.file_path in removed:
                writer.delete(entry)
            elif entry.snapshot_id == snapshot_id:
                writer.add_entry(entry)
            else:
                writer.existing(entry)
    return [writer.to_manifest_file()]
