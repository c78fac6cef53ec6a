"""Bodies on this replica's disk, from the first byte until all their chunks are published."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from k2common.runtime.blocking import Blocking
from ulid import ULID

from ingest_gateway.digests import ContentDigest
from ingest_gateway.limits import Guard, Limits
from ingest_gateway.unpacking import Unpacker

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A whole body on disk, not yet an upload's."""

    path: Path
    bytes: int
    sha256: str


class Spool:
    """One folder; a file in it is named by its upload."""

    def __init__(self, folder: Path, *, limits: Limits, blocking: Blocking) -> None:
        self._folder = folder
        self.limits = limits
        self._blocking = blocking
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{PARTIAL}"):
            left.unlink()
        self._found = frozenset(path.name for path in folder.iterdir())

    async def receive(
        self,
        body: AsyncIterator[bytes],
        *,
        unpacker: Unpacker,
        expected: ContentDigest,
        is_packed: Callable[[], bool] = lambda: False,
    ) -> Received:
        """Write the content of the body as it comes; it is on disk for good when this returns.

        `is_packed` says, from the first byte on, whether the content is no text yet. Raises Problem for a
        content beyond a limit, however small the body is that holds it, and 400 for a body that cannot be
        unpacked or has another digest. A body that ends early leaves nothing.
        """
        path = self._folder / f"{ULID()}{PARTIAL}"
        digest = hashlib.sha256()
        guard = Guard(self.limits, self._folder, is_packed=is_packed)
        try:
            with path.open("wb") as file:
                async for data in body:
                    expected.update(data)
                    for part in unpacker.feed(data):
                        guard.check(part)
                        digest.update(part)
                        file.write(part)
                unpacker.end()
                expected.check()
                file.flush()
                await self._blocking.run(os.fsync, file.fileno())
        # Also when the caller has gone: nobody else knows the file, and the disk would fill.
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Received(path=path, bytes=guard.size, sha256=digest.hexdigest())

    def keep(self, received: Received, upload_id: str) -> None:
        """Make the body the upload's."""
        received.path.replace(self._path(upload_id))
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self, received: Received) -> None:
        """Forget a body that became no upload."""
        received.path.unlink(missing_ok=True)

    def sweep(self, wanted: Set[str]) -> None:
        """Forget what lay here at the start and is no wanted upload's: its claim was never written."""
        for upload_id in self._found - wanted:
            self.remove(upload_id)

    def rename(self, upload_id: str, other_id: str) -> None:
        """Make the body another upload's: it has the same bytes."""
        self._path(upload_id).replace(self._path(other_id))

    def remove(self, upload_id: str) -> None:
        """Forget the upload's body: all of it is published."""
        self._path(upload_id).unlink(missing_ok=True)

    def has(self, upload_id: str) -> bool:
        """Whether the upload's body is here."""
        return self._path(upload_id).exists()

    def used_bytes(self) -> int:
        """The bodies that are here, whole or not yet."""
        with os.scandir(self._folder) as entries:
            return sum(size for entry in entries if (size := _size(entry)) is not None)

    def free_bytes(self) -> int:
        """What the disk still takes."""
        return shutil.disk_usage(self._folder).free

    def open(self, upload_id: str) -> BinaryIO:
        """The upload's body."""
        return self._path(upload_id).open("rb")

    def _path(self, upload_id: str) -> Path:
        return self._folder / str(ULID.from_str(upload_id))


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return None  # published meanwhile
