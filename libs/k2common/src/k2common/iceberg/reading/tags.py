"""Names for tokens, in the table `ingest.tags`: a row per change, and the newest of a name holds.

The table is written by the same commit as every other. Its offsets count the changes, so that of two changes
at once one is made first and the other upon it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2common.errors import Fenced, RecordError, SetupError, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.commits.commit import Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.files.verification import FileVerifier
from k2common.iceberg.reading.rows import verified_rows
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TAGS
from k2common.versions.version import Version

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
"""No token, time or snapshot id looks like it."""
ATTEMPTS = 8
LIVE_SNAPSHOTS = 5
EVERY = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What the newest change of a name says; `token` is None for one that was deleted."""

    name: str
    token: str | None
    changed_at: datetime


class Tags:
    """The tags as the catalogue has them now; safe for threads.

    Every method raises TransientError when the catalogue or the warehouse does not answer.
    """

    def __init__(self, catalog: Catalog, *, verifier: FileVerifier | None = None) -> None:
        self._catalog = catalog
        self._verifier = verifier or FileVerifier()
        self._read: tuple[int | None, Mapping[str, Tag]] = (None, {})
        self._lock = Lock()

    def all(self) -> list[Tag]:
        """Every tag that is not deleted, by name."""
        try:
            table = load_table(self._catalog, TAGS.table)
        except SetupError:
            return []  # there is no such table yet
        found = self._newest(table)
        return [found[name] for name in sorted(found) if found[name].token is not None]

    def find(self, name: str) -> Tag | None:
        """The tag; None when there is none, or none any more."""
        return next((tag for tag in self.all() if tag.name == name), None)

    def put(self, name: str, token: str | None, *, now: datetime) -> Tag:
        """Let the name stand for the token from now on, or delete the tag for None.

        What is so already is not written again, so the same call may be repeated after any failure. Raises
        RecordError for a name that cannot be one.
        """
        if NAME.fullmatch(name) is None:
            raise RecordError(f"{name!r} is no name for a tag: a letter, then letters, digits, '.', '_', '-'")
        for _ in range(ATTEMPTS):
            table = load_table(self._catalog, TAGS.table)
            known = self._newest(table).get(name, Tag(name=name, token=None, changed_at=now))
            if known.token == token:
                return known
            tag = Tag(name=name, token=token, changed_at=now)
            try:
                commit(self._catalog, _proposal(table, tag), retention=RETENTION)
            except Fenced:
                continue
            return tag
        raise TransientError(f"tag {name}: {ATTEMPTS} times another change was faster")

    def _newest(self, table: Table) -> Mapping[str, Tag]:
        snapshot_id = table.metadata.current_snapshot_id
        with self._lock:
            known_id, known = self._read
        if snapshot_id is None or snapshot_id == known_id:
            return known if snapshot_id is not None else {}
        try:
            rows = verified_rows(table.scan(), self._verifier, table=TAGS.table).sort_by("kafka_offset")
        except AWAY as error:
            raise TransientError(f"{TAGS.table} cannot be read") from error
        found = {
            row["name"]: Tag(name=row["name"], token=row["token"], changed_at=row["changed_at"])
            for row in rows.to_pylist()
        }
        with self._lock:
            self._read = (snapshot_id, found)
        return found


def _proposal(table: Table, tag: Tag) -> Proposal:
    head = head_version(table)
    changes = 0 if head is None else head.offsets.get(EVERY, 0)
    first = Version(table=TAGS.table, number=0, committed_at=tag.changed_at, schema_id=0, epoch=0, offsets={})

    def change(seen: Version | None) -> Version:
        return (seen or first).successor(now=tag.changed_at, offsets={EVERY: changes + 1}, hidden={})

    rows = pa.table(
        {
            "name": [tag.name],
            "token": pa.array([tag.token], pa.string()),
            "changed_at": pa.array([tag.changed_at], pa.timestamp("us", "UTC")),
            "kafka_epoch": pa.array([0], pa.int32()),
            "kafka_partition": pa.array([EVERY], pa.int32()),
            "kafka_offset": pa.array([changes], pa.int64()),
        }
    )
    return Proposal(
        table=TAGS.table,
        epoch=0,
        change=change,
        expected={EVERY: changes or None},
        files=write(rows, table=table),
    )


# Nobody asks for an old version of this table, so none is recorded.
RETENTION = Retention(live=LIVE_SNAPSHOTS, recorded=lambda _: True)
