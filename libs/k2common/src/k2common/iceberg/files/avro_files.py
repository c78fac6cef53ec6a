"""Manifests and manifest lists: named by their digest when written, verified when read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2common.iceberg.files.digests import uuid_of
from k2common.iceberg.files.verification import faults, read_whole


class MemoryOutput(OutputFile):
    """A file in memory until `store` writes it under a name made of its digest."""

    def __init__(self) -> None:
        super().__init__("")
        self._data = b""

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        """Return False: nothing has this name yet."""
        return False

    def to_input_file(self) -> InputFile:
        """Return the bytes as a file to be read."""
        return _MemoryInput(self.location, self._data)

    def create(self, overwrite: bool = False) -> OutputStream:
        """Return a stream that keeps its bytes here when it is closed."""
        return _Kept(self)

    def store(self, table: Table, prefix: str, suffix: str) -> str:
        """Write the file among the table's metadata and return its location.

        The name is `prefix`, the UUID of the digest, `suffix`. Raises what the store raises.
        """
        name = f"{prefix}{uuid_of(hashlib.sha256(self._data).digest())}{suffix}"
        self._location = table.location_provider().new_metadata_location(name)
        with table.io.new_output(self._location).create(overwrite=True) as stream:
            stream.write(self._data)
        return self._location

    def keep(self, data: bytes) -> None:
        """Take the bytes of the closed stream."""
        self._data = data


class _Kept(io.BytesIO):
    def __init__(self, output: MemoryOutput) -> None:
        super().__init__()
        self._output = output

    def close(self) -> None:
        if not self.closed:
            self._output.keep(self.getvalue())
        super().close()


class _MemoryInput(InputFile):
    def __init__(self, location: str, data: bytes) -> None:
        super().__init__(location)
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> InputStream:
        return io.BytesIO(self._data)


class _VerifiedIO(FileIO):
    """Gives whole, verified files of one table to the library's readers."""

    def __init__(self, files: FileIO, table: str) -> None:
        super().__init__(files.properties)
        self._files = files
        self._table = table

    def new_input(self, location: str) -> InputFile:
        return _MemoryInput(location, read_whole(self._files, location, table=self._table))

    # pyiceberg's FileIO has these two; it calls neither to read manifests.
    def new_output(self, location: str) -> OutputFile:
        raise NotImplementedError("a reader writes no file")

    def delete(self, location: Any) -> None:
        raise NotImplementedError("a reader deletes no file")


def manifests_of(snapshot: Snapshot | None, table: Table) -> Sequence[ManifestFile]:
    """Return the manifests of a snapshot, none without one.

    Raises DataDamaged or DataMissing for its manifest list, and what the store raises.
    """
    if snapshot is None:
        return ()
    name = ".".join(table.name())
    with faults(name, snapshot.manifest_list):
        return snapshot.manifests(_VerifiedIO(table.io, name))


def read_entries(manifest: ManifestFile, files: FileIO, *, table: str) -> list[ManifestEntry]:
    """Return the live entries of a manifest.

    Raises DataDamaged or DataMissing, and what the store raises.
    """
    with faults(table, manifest.manifest_path):
        return manifest.fetch_manifest_entry(_VerifiedIO(files, table), discard_deleted=True)
