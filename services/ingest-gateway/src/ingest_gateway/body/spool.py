"""Bodies on this replica's disk, from the first byte until a committed claim says that they are published.

Beside each body lies its claim: `<upload>.claim` before the client has an answer, `<upload>.answered` from
then on. What a start finds that no claim in Kafka names is decided by `recovery`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from k2common.runtime.blocking import Blocking
from ulid import ULID

from ingest_gateway.body.decompression import Unpacker
from ingest_gateway.body.digests import ContentDigest
from ingest_gateway.body.limits import Guard, Limits

PARTIAL = ".partial"
CLAIM = ".claim"
ANSWERED = ".answered"
QUARANTINE = "quarantine"
ULID_LENGTH = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedBody:
    """A whole body on disk, not yet an upload's."""

    path: Path
    bytes: int
    sha256: str


class BodyFile:
    """Hashes and bounds what is written to one new file."""

    def __init__(self, path: Path, file: BinaryIO, guard: Guard) -> None:
        self._path = path
        self._file = file
        self._guard = guard
        self._digest = hashlib.sha256()

    def write(self, part: bytes) -> None:
        """Append the part.

        Raises Problem as `Guard.check`.
        """
        self._guard.check(part)
        self._digest.update(part)
        self._file.write(part)

    def finish(self) -> ReceivedBody:
        """Return the body once its bytes are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return ReceivedBody(path=self._path, bytes=self._guard.size, sha256=self._digest.hexdigest())


@contextmanager
def new_body(
    folder: Path, limits: Limits, *, is_packed: Callable[[], bool] = lambda: False
) -> Iterator[BodyFile]:
    """Open a new file in the folder; the file is removed when the block fails."""
    path = folder / f"{ULID()}{PARTIAL}"
    try:
        with path.open("wb") as file:
            yield BodyFile(path, file, Guard(limits, folder, is_packed=is_packed))
    # Also when the caller is cancelled: nobody else knows the file, and the disk would fill.
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBody:
    """A body that a start found; `claim` is its encoded claim where one lies beside it."""

    upload_id: str
    claim: bytes | None
    answered: bool


class Spool:
    """One folder; a body in it is named by its upload."""

    def __init__(self, folder: Path, *, limits: Limits, blocking: Blocking) -> None:
        self._folder = folder
        self.limits = limits
        self._blocking = blocking
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{PARTIAL}"):
            left.unlink()
        self._quarantine = folder / QUARANTINE
        self._found = frozenset(path.name for path in folder.iterdir() if _is_upload(path.name))

    async def receive(
        self,
        body: AsyncIterator[bytes],
        *,
        unpacker: Unpacker,
        expected: ContentDigest,
        is_packed: Callable[[], bool] = lambda: False,
    ) -> ReceivedBody:
        """Write the content of the body as it comes; it is on disk for good when this returns.

        `is_packed` says, from the first byte on, whether the content is no text yet. Raises Problem for a
        content beyond a limit, however small the body is that holds it, and 400 for a body that cannot be
        unpacked or has another digest. A body that ends early leaves nothing.
        """
        with new_body(self._folder, self.limits, is_packed=is_packed) as file:
            async for data in body:
                expected.update(data)
                for part in unpacker.feed(data):
                    file.write(part)
            unpacker.end()
            expected.check()
            return await self._blocking.run(file.finish)

    async def keep(self, received: ReceivedBody, upload_id: str, claim: bytes) -> None:
        """Make the body the upload's, with its claim beside it; both are on disk for good on return."""
        await self._blocking.run(self._keep, received.path, upload_id, claim)

    def _keep(self, path: Path, upload_id: str, claim: bytes) -> None:
        with self._path(upload_id, CLAIM).open("wb") as file:
            file.write(claim)
            file.flush()
            os.fsync(file.fileno())
        path.replace(self._path(upload_id))
        self._sync_folder()

    async def mark_answered(self, upload_id: str) -> None:
        """Note, for good, that the client gets the answer that accepts the upload.

        Nothing happens where the body is not here: its claim was read as published, or is another replica's.
        """
        await self._blocking.run(self._mark_answered, upload_id)

    def _mark_answered(self, upload_id: str) -> None:
        try:
            self._path(upload_id, CLAIM).replace(self._path(upload_id, ANSWERED))
        except FileNotFoundError:
            return
        self._sync_folder()

    def discard(self, received: ReceivedBody) -> None:
        """Remove a body that became no upload."""
        received.path.unlink(missing_ok=True)

    def stored(self) -> Sequence[StoredBody]:
        """Return the bodies that the start found and that are still here, the oldest first."""
        return [self._stored(upload_id) for upload_id in sorted(self._found) if self.has(upload_id)]

    def _stored(self, upload_id: str) -> StoredBody:
        answered = self._path(upload_id, ANSWERED)
        claim = answered if answered.exists() else self._path(upload_id, CLAIM)
        return StoredBody(
            upload_id=upload_id,
            claim=claim.read_bytes() if claim.exists() else None,
            answered=claim == answered,
        )

    def quarantine(self, upload_id: str) -> None:
        """Move the body and its claim to the folder of bodies that only a person may remove."""
        self._quarantine.mkdir(exist_ok=True)
        for suffix in (CLAIM, ANSWERED, ""):
            path = self._path(upload_id, suffix)
            if path.exists():
                path.replace(self._quarantine / path.name)
        self._sync_folder()

    def quarantined(self) -> int:
        """Return the number of quarantined bodies."""
        if not self._quarantine.exists():
            return 0
        return sum(_is_upload(path.name) for path in self._quarantine.iterdir())

    async def lend(self, upload_id: str, other_id: str, claim: bytes) -> None:
        """Make the body another upload's, with that one's claim: it has the same bytes."""
        await self._blocking.run(self._keep, self._path(upload_id), other_id, claim)
        self.remove(upload_id)

    def remove(self, upload_id: str) -> None:
        """Remove the upload's body: a committed claim says that it is published or another replica's."""
        # The body first: a claim that is left alone harms nobody.
        for suffix in ("", CLAIM, ANSWERED):
            self._path(upload_id, suffix).unlink(missing_ok=True)

    def has(self, upload_id: str) -> bool:
        """Whether the upload's body is here."""
        return self._path(upload_id).exists()

    def used_bytes(self) -> int:
        """The bodies that are here, whole or not yet."""
        folders = [folder for folder in (self._folder, self._quarantine) if folder.exists()]
        return sum(_used_bytes(folder) for folder in folders)

    def free_bytes(self) -> int:
        """What the disk still takes."""
        return shutil.disk_usage(self._folder).free

    def open(self, upload_id: str) -> BinaryIO:
        """The upload's body."""
        return self._path(upload_id).open("rb")

    def _path(self, upload_id: str, suffix: str = "") -> Path:
        return self._folder / f"{ULID.from_str(upload_id)}{suffix}"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_upload(name: str) -> bool:
    return len(name) == ULID_LENGTH and "." not in name


def _used_bytes(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(size for entry in entries if entry.is_file() and (size := _size(entry)) is not None)


def _size(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return None  # published meanwhile
