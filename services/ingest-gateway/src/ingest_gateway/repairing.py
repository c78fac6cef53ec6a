"""Mended rejects: exported ones, their column `raw` mended, become a file like the upload's."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import TextIO

from k2common.http.parameters import invalid
from k2common.http.problems import FieldError
from ulid import ULID

from ingest_gateway.rejects import COLUMNS
from ingest_gateway.spool import PARTIAL, Received

MAX_FIELD = 8 * 1024 * 1024


def mended(received: Received, *, header: str | None, encoding: str) -> Received:
    """The records in the column `raw`, under the header of the upload that they come from.

    A body that is no such export is what it is: a file with the rows. Raises Problem 400 for an export whose
    lines cannot be read.
    """
    with received.path.open(encoding="utf-8", errors="strict", newline="") as file:
        try:
            if file.readline().rstrip("\r\n").split(",") != list(COLUMNS):
                return received
        except UnicodeDecodeError:
            return received
        path = received.path.with_name(f"{ULID()}{PARTIAL}")
        try:
            return _written(path, file, header=header, encoding=encoding)
        except (csv.Error, UnicodeError, KeyError) as error:
            path.unlink()
            message = f"the rejects cannot be read: {error}"
            raise invalid([FieldError(parameter="repairs", code="INVALID", message=message)]) from error


def _written(path: Path, file: TextIO, *, header: str | None, encoding: str) -> Received:
    digest = hashlib.sha256()
    size = 0
    csv.field_size_limit(MAX_FIELD)
    with path.open("wb") as out:
        lines = [] if header is None else [header]
        rows = csv.DictReader(file, fieldnames=COLUMNS, strict=True)
        for text in (*lines, *(row["raw"] or "" for row in rows)):
            line = f"{text}\n".encode(encoding)
            digest.update(line)
            size += len(line)
            out.write(line)
    return Received(path=path, bytes=size, sha256=digest.hexdigest())
