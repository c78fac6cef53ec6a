"""The bytes of uploads, packed, by their SHA-256, in the warehouse or any store that the library speaks to.

An object is a sequence of zstd frames (RFC 8878). It is complete once an upload that has these bytes is
published; before that nobody reads it. Equal bytes are one object, rewritten by each upload that has them.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import pyarrow as pa
import zstandard
from pyiceberg.io import FileIO, load_file_io

from k2common.errors import DataDamaged, RecordError, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, Catalog
from k2common.iceberg.files.verification import log_fault

PIECE_BYTES = 1024 * 1024
ARCHIVE = "the archive of uploads"


class ContentGone(RecordError):
    """The archive does not hold these bytes."""


class Archive:
    """Writes and reads objects; every method may touch the store, so it belongs in a worker thread."""

    def __init__(self, catalog: Catalog, *, root: str) -> None:
        self._root = root.rstrip("/")
        self._io: FileIO = load_file_io(dict(catalog.properties), location=root)

    def writer(self, sha256: str) -> ArchiveWriter:
        """A writer of the object; it replaces one that is there when it is finished."""
        return ArchiveWriter(self._io, self._location(sha256))

    def content(self, sha256: str) -> Iterator[bytes]:
        """The bytes in pieces.

        Raises ContentGone when there are none, TransientError when the store does not answer, and
        DataDamaged, at the end at the latest, for bytes that are others.
        """
        digest = hashlib.sha256()
        try:
            source: Any = self._io.new_input(self._location(sha256)).open()
            with source as packed:
                frames = zstandard.ZstdDecompressor().stream_reader(
                    packed, read_across_frames=True, read_size=PIECE_BYTES
                )
                while piece := frames.read(PIECE_BYTES):
                    digest.update(piece)
                    yield piece
        except FileNotFoundError as error:
            raise ContentGone(f"the archive does not hold {sha256}") from error
        except zstandard.ZstdError as error:
            raise self._damaged(sha256) from error
        except AWAY as error:
            raise TransientError("the archive does not answer") from error
        if digest.hexdigest() != sha256:
            raise self._damaged(sha256)

    def holds(self, sha256: str) -> bool:
        """Whether there is such an object.

        Raises TransientError when the store does not answer.
        """
        try:
            return self._io.new_input(self._location(sha256)).exists()
        except AWAY as error:
            raise TransientError(f"the archive does not answer: {error}") from error

    def remove(self, sha256: str) -> None:
        """Remove the object, if there is one.

        Raises TransientError when the store does not answer.
        """
        try:
            source = self._io.new_input(self._location(sha256))
            if source.exists():
                self._io.delete(source)
        except AWAY as error:
            raise TransientError(f"the archive does not answer: {error}") from error

    def _damaged(self, sha256: str) -> DataDamaged:
        fault = DataDamaged(ARCHIVE, path=self._location(sha256))
        log_fault(fault)
        return fault

    def _location(self, sha256: str) -> str:
        # Not .zst: pyarrow would pack an object of that name once more on its way to a store.
        return f"{self._root}/{sha256[:2]}/{sha256}.zstd"


class ArchiveWriter(AbstractContextManager["ArchiveWriter"]):
    """One object; nothing is seen under its name before `finish`, in a folder as in an object store."""

    def __init__(self, io: FileIO, location: str) -> None:
        parts = urlsplit(location)
        # An object store shows an object when it is closed; a file has to be renamed.
        self._path = Path(parts.path) if parts.scheme in ("", "file") else None
        self._temporary = location if self._path is None else f"{location}.{uuid.uuid4().hex}"
        self._stream: Any = io.new_output(self._temporary).create(overwrite=True)
        self._finished = False
        self.next_byte = 0

    def fill(self, file: BinaryIO, end: int) -> None:
        """Pack the file's bytes from where the object stands up to `end`."""
        file.seek(self.next_byte)
        while self.next_byte < end:
            data = file.read(min(PIECE_BYTES, end - self.next_byte))
            if not data:
                raise RuntimeError(f"the file ends at {self.next_byte}, before {end}")
            self._stream.write(pa.compress(data, codec="zstd", asbytes=True))
            self.next_byte += len(data)

    def append(self, frame: bytes, *, start: int, length: int) -> None:
        """Add a frame that holds `length` bytes from `start` on; one that is there changes nothing."""
        if start > self.next_byte:
            raise RuntimeError(f"a frame for byte {start} when the object stands at {self.next_byte}")
        if start == self.next_byte:
            self._stream.write(frame)
            self.next_byte += length

    def finish(self) -> None:
        """Make the object seen under its name."""
        if not self._finished:
            self._stream.close()
            if self._path is not None:
                Path(urlsplit(self._temporary).path).replace(self._path)
            self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            # What an object store keeps of it is rewritten before anybody trusts it.
            self._stream.close()
            if self._path is not None:
                Path(urlsplit(self._temporary).path).unlink(missing_ok=True)
