"""`as_of`: a token, a tag, an Iceberg snapshot id or a time, to one version per table.

A token has an `@`, a tag begins with a letter. Digits alone are a snapshot's id if a snapshot of one of the
tables has or had it, and nanoseconds since 1970 otherwise. Ids are drawn from 2^63: that one of them is the
very nanosecond that somebody asks for does not happen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from k2common.domain.time import parse_time, to_datetime
from k2common.errors import RecordError
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import UnknownVersion, VersionReader
from k2common.iceberg.reading.tags import NAME
from k2common.versions.version import Version, format_token, parse_token

SNAPSHOT_ID = re.compile(r"[1-9][0-9]{0,18}")
FAR_AHEAD = timedelta(days=366)
"""Digits that mean a time so long after the newest version are rather a snapshot id with a slip in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The versions that an answer is read from; a table that had none yet is left out.

    `provisional` says that a later commit may still belong to the time that was asked for.
    """

    versions: Mapping[str, Version]
    provisional: bool = False

    @property
    def token(self) -> str | None:
        """Names the versions; None when no table had one."""
        return format_token({table: v.number for table, v in self.versions.items()}) or None

    def plan(
        self,
        reader: VersionReader,
        table: str,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] = (),
        trading_day: int | None = None,
        clock: str = "ts_event_ns",
    ) -> Plan | None:
        """The files of the table's version; None when it had none yet. Raises as VersionReader.plan."""
        version = self.versions.get(table)
        if version is None:
            return None
        return reader.plan(
            version,
            start_ns=start_ns,
            end_ns=end_ns,
            symbols=symbols,
            trading_day=trading_day,
            clock=clock,
        )


def resolve(reader: VersionReader, text: str | None, tables: Sequence[str]) -> AsOf:
    """The versions of `tables` that `text` names; the newest ones for None.

    A snapshot is one of a single table; the others are read as of the time when its version was committed.
    Raises RecordError for a text that names none of them, UnknownVersion, VersionGone and TransientError as
    the reader.
    """
    if text is None:
        found = {table: reader.latest(table) for table in tables}
        return AsOf(versions={table: v for table, v in found.items() if v is not None})
    if NAME.fullmatch(text):
        return _by_token(reader, reader.tagged(text), tables)
    if "@" in text:
        return _by_token(reader, text, tables)
    if SNAPSHOT_ID.fullmatch(text) and (version := _by_snapshot(reader, int(text), tables)) is not None:
        others = [table for table in tables if table != version.table]
        beside = _by_time(reader, version.committed_at, others)
        return replace(beside, versions={**beside.versions, version.table: version})
    moment = to_datetime(parse_time(text))
    found_by_time = _by_time(reader, moment, tables)
    if SNAPSHOT_ID.fullmatch(text) and found_by_time.versions:
        newest = max(version.committed_at for version in found_by_time.versions.values())
        if moment - newest > FAR_AHEAD:
            raise UnknownVersion(f"{text} is no snapshot of {', '.join(tables)}, and no time that has come")
    return found_by_time


def _by_token(reader: VersionReader, text: str, tables: Sequence[str]) -> AsOf:
    numbers = parse_token(text)
    if not numbers.keys() & set(tables):
        raise RecordError(f"{text!r} names no version of {', '.join(tables)}")
    return AsOf(versions={t: reader.at(t, number) for t, number in numbers.items() if t in tables})


def _by_snapshot(reader: VersionReader, snapshot_id: int, tables: Sequence[str]) -> Version | None:
    for table in tables:
        with suppress(UnknownVersion):
            return reader.by_snapshot(table, snapshot_id)
    return None


def _by_time(reader: VersionReader, moment: datetime, tables: Sequence[str]) -> AsOf:
    found = {table: reader.by_time(table, moment) for table in tables}
    newest = [reader.latest(table) for table in tables]
    return AsOf(
        versions={table: v for table, v in found.items() if v is not None},
        provisional=any(v is None or v.committed_at <= moment for v in newest),
    )
