"""What manifests list. A manifest is never written again: its files are remembered by what maintenance needs
of them, and whole entries are parsed anew but for those of the small manifests that commits bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestEntry, ManifestFile

from k2common.iceberg.recent import Recent

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


def files_of(manifest: ManifestFile, io: FileIO) -> Sequence[LiveFile]:
    """The files that the manifest adds or keeps. Raises what the warehouse raises."""
    known = _files.get(manifest.manifest_path)
    if known is None:
        known = tuple(_live(entry) for entry in entries_of(manifest, io))
        _files.put(manifest.manifest_path, known)
    return known


def entries_of(manifest: ManifestFile, io: FileIO) -> Sequence[ManifestEntry]:
    """The entries of those files, not to be changed. Raises what the warehouse raises."""
    known = _entries.get(manifest.manifest_path)
    if known is None:
        known = manifest.fetch_manifest_entry(io, discard_deleted=True)
        if len(known) <= SMALL:
            _entries.put(manifest.manifest_path, known)
    return known


def _live(entry: ManifestEntry) -> LiveFile:
    file = entry.data_file
    return LiveFile(
        file_path=file.file_path,
        partition=repr(file.partition),
        spec_id=file.spec_id,
        record_count=file.record_count,
        file_size_in_bytes=file.file_size_in_bytes,
    )
