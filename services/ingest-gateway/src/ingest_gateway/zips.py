"""A zip file with one member becomes that member, never more of it than is allowed."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from http import HTTPStatus

from k2common.http.problems import Problem
from ulid import ULID

from ingest_gateway.limits import Guard, Limits
from ingest_gateway.spool import PARTIAL, Received

MEDIA = ("application/zip", "application/x-zip-compressed")
PIECE_BYTES = 1024 * 1024


def unzipped(received: Received, *, limits: Limits) -> Received:
    """The content of the only member.

    Raises Problem 400 for a file that is no zip or has another number of members, and what `Guard` raises.
    """
    path = received.path.with_name(f"{ULID()}{PARTIAL}")
    guard = Guard(limits, received.path.parent, is_packed=lambda: False)
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(received.path) as packed, path.open("wb") as out:
            members = [info for info in packed.infolist() if not info.is_dir()]
            if len(members) != 1:
                raise _broken(f"it has {len(members)} members, not one")
            with packed.open(members[0]) as source:
                while piece := source.read(PIECE_BYTES):
                    guard.check(piece)
                    digest.update(piece)
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise _broken(str(error)) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Received(path=path, bytes=guard.size, sha256=digest.hexdigest())


def _broken(reason: str) -> Problem:
    return Problem(
        HTTPStatus.BAD_REQUEST, "BODY_NOT_DECODABLE", f"the body is no zip with one file: {reason}"
    )
