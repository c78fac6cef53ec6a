"""A zip file with one member becomes that member, never more of it than is allowed."""

from __future__ import annotations

import errno
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from k2common.http.problems import Problem

from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import ReceivedBody, new_body

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


def unzipped(received: ReceivedBody, *, limits: Limits) -> ReceivedBody:
    """The content of the only member.

    Raises Problem 400 for a file that is no zip or has another number of members, and what `Guard` raises.
    """
    with new_body(received.path.parent, limits) as out:
        for piece in _content(received.path):
            out.write(piece)
        return out.finish()


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
