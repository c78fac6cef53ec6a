"""Manifests, read and written. One is never written again: its files are remembered by what maintenance
needs of them, and whole entries are parsed again but for those of the small manifests that commits bring.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal, Protocol

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestFile, write_manifest
from pyiceberg.table import Table

from k2common.iceberg.files.avro_files import MemoryOutput, read_entries
from k2common.iceberg.files.lru import Recent

SMALL_MANIFEST_BYTES = 1024 * 1024
COMPRESSION: Literal["deflate"] = "deflate"
MERGE_AT = 100
"""So many small manifests are merged into one: the list is rewritten by each commit."""
SMALL = 8
"""Files of a manifest whose entries are kept: one takes some ten kilobytes."""


class SizedFile(Protocol):
    """A data file by its size."""

    @property
    def record_count(self) -> int:
        """Rows."""

    @property
    def file_size_in_bytes(self) -> int:
        """Bytes, compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFile:
    """A file of a manifest that no later one has removed; `partition` is equal for files of one partition."""

    file_path: str
    partition: str
    spec_id: int
    record_count: int
    file_size_in_bytes: int


_files = Recent[str, Sequence[LiveFile]](limit=200_000, weight=len)
_entries = Recent[str, Sequence[ManifestEntry]](limit=1_000, weight=len)


def files_of(manifest: ManifestFile, io: FileIO, *, table: str = "") -> Sequence[LiveFile]:
    """The files that the manifest adds or keeps. Raises what the warehouse raises."""
    known = _files.get(manifest.manifest_path)
    if known is None:
        known = tuple(_live(entry) for entry in entries_of(manifest, io, table=table))
        _files.put(manifest.manifest_path, known)
    return known


def entries_of(manifest: ManifestFile, io: FileIO, *, table: str = "") -> Sequence[ManifestEntry]:
    """The entries of those files, not to be changed. Raises what the warehouse raises."""
    known = _entries.get(manifest.manifest_path)
    if known is None:
        known = read_entries(manifest, io, table=table)
        if len(known) <= SMALL:
            _entries.put(manifest.manifest_path, known)
    return known


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
    paths, name = {m.manifest_path for m in small}, ".".join(table.name())
    entries = [entry for manifest in small for entry in entries_of(manifest, table.io, table=name)]
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
    output = MemoryOutput()
    with write_manifest(
        format_version=table.metadata.format_version,
        spec=table.spec() if spec_id is None else table.specs()[spec_id],
        schema=table.schema(),
        output_file=output,
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
    output.store(table, "", "-m0.avro")
    return [writer.to_manifest_file()]


def _live(entry: ManifestEntry) -> LiveFile:
    file = entry.data_file
    return LiveFile(
        file_path=file.file_path,
        partition=repr(file.partition),
        spec_id=file.spec_id,
        record_count=file.record_count,
        file_size_in_bytes=file.file_size_in_bytes,
    )
