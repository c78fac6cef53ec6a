"""Reject reports that a user has corrected in the column `raw`: back to a file like the upload's."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from k2common.http.parameters import invalid
from k2common.http.problems import FieldError

from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import ReceivedBody, new_body
from ingest_gateway.receipts.rejects import COLUMNS

MAX_FIELD = 8 * 1024 * 1024


def restore_rejects(
    received: ReceivedBody, *, limits: Limits, header: str | None, encoding: str
) -> ReceivedBody:
    """Return the records in the column `raw`, under the header of the upload that they come from.

    A body that is no such export is what it is: a file with the rows. Raises Problem 400 for an export whose
    lines cannot be read, and what `Guard` raises for its size.
    """
    with received.path.open(encoding="utf-8", errors="strict", newline="") as file:
        try:
            if file.readline().rstrip("\r\n").split(",") != list(COLUMNS):
                return received
        except UnicodeDecodeError:
            return received
        try:
            # A corrected record may be longer than a line of a body.
            with new_body(received.path.parent, limits, is_packed=lambda: True) as out:
                for line in _lines(file, header=header):
                    out.write(f"{line}\n".encode(encoding))
                return out.finish()
        except (csv.Error, UnicodeError, KeyError) as error:
            message = f"the rejects cannot be read: {error}"
            raise invalid([FieldError(parameter="repairs", code="INVALID", message=message)]) from error


def _lines(file: TextIO, *, header: str | None) -> Iterator[str]:
    csv.field_size_limit(MAX_FIELD)
    if header is not None:
        yield header
    for row in csv.DictReader(file, fieldnames=COLUMNS, strict=True):
        yield row["raw"] or ""
