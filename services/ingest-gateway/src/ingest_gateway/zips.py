"""A zip file with one member becomes that member, never more of it than is allowed."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from k2common.http.problems import Problem
from ulid import ULID

from ingest_gateway.limits import Guard, Limits
from ingest_gateway.spool import PARTIAL, Received

MEDIA = ("application/zip", "application/x-zip-compressed")
PIECE_BYTES = 1024 * 1024
NOT_DECODABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
    IndexError,
)
"""What the library raises for archives that are damaged or made up; names that are not UTF-8 too."""


def unzipped(received: Received, *, limits: Limits) -> Received:
    """The content of the only member.

    Raises Problem 400 for a file that is no zip or has another number of members, and what `Guard` raises.
    """
    path = received.path.with_name(f"{ULID()}{PARTIAL}")
    guard = Guard(limits, received.path.parent, is_packed=lambda: False)
    digest = hashlib.sha256()
    try:
        with path.open("wb") as out:
            for piece in _content(received.path):
                guard.check(piece)
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Received(path=path, bytes=guard.size, sha256=digest.hexdigest())


def _content(path: Path) -> Iterator[bytes]:
    """Read the only member. Raises Problem 400 for whatever is wrong with the archive."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = [info for info in packed.infolist() if not info.is_dir()]
            if len(members) != 1:
                raise _broken(f"it has {len(members)} members, not one")
            with packed.open(members[0]) as source:
                while piece := source.read(PIECE_BYTES):
                    yield piece
    except NOT_DECODABLE as error:
        raise _broken(str(error)) from error
    except OSError as error:
        # bz2 gives no number, and a made-up offset cannot be sought; all else is the disk's fault.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _broken(str(error)) from error


def _broken(reason: str) -> Problem:
    return Problem(
        HTTPStatus.BAD_REQUEST, "BODY_NOT_DECODABLE", f"the body is no zip with one file: {reason}"
    )
