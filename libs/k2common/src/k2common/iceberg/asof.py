"""`as_of`: a token or a time, to one version per table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2common.domain.time import parse_time, to_datetime
from k2common.errors import RecordError
from k2common.iceberg.plan import Plan
from k2common.iceberg.reader import VersionReader
from k2common.versions import Version, format_token, parse_token


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
    ) -> Plan | None:
        """The files of the table's version; None when it had none yet. Raises as VersionReader.plan."""
        version = self.versions.get(table)
        if version is None:
            return None
        return reader.plan(version, start_ns=start_ns, end_ns=end_ns, symbols=symbols)


def resolve(reader: VersionReader, text: str | None, tables: Sequence[str]) -> AsOf:
    """The versions of `tables` that `text` names; the newest ones for None.

    Raises RecordError for a text that names none of them, UnknownVersion, VersionGone and TransientError as
    the reader.
    """
    if text is None:
        found = {table: reader.latest(table) for table in tables}
        return AsOf(versions={table: v for table, v in found.items() if v is not None})
    if "@" in text:
        numbers = parse_token(text)
        missing = [table for table in tables if table not in numbers]
        if missing == list(tables):
            raise RecordError(f"{text!r} names no version of {', '.join(tables)}")
        return AsOf(versions={t: reader.at(t, number) for t, number in numbers.items() if t in tables})
    moment = to_datetime(parse_time(text))
    found = {table: reader.by_time(table, moment) for table in tables}
    newest = [reader.latest(table) for table in tables]
    return AsOf(
        versions={table: v for table, v in found.items() if v is not None},
        provisional=any(v is None or v.committed_at <= moment for v in newest),
    )
