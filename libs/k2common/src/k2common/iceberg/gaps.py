"""Events of sequence numbers in `market.gaps`, each once, with the state that they were found from.

The offsets of the table count its events. A step commits the events, the versions that it has followed the
datasets to and the location of the state in one snapshot, on condition that no other step came between: so a
step counts whole or not at all, and whoever restarts goes on from the last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog

from k2common.columnar.arrow import arrow_schema_of
from k2common.columnar.sorting import sorted_rows
from k2common.domain.sequencing import STATE
from k2common.errors import Fenced, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.files.digests import named_by_digest
from k2common.iceberg.files.verification import open_parquet
from k2common.iceberg.versions.documents import head_version
from k2common.iceberg.versions.hidden_files import hidden_files
from k2common.schemas.datasets import GAPS
from k2common.versions.version import Version

EVENTS_PARTITION = 0
EPOCH = 0
FOLLOWED_KEY = b"k2.followed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the work is: events in the table, the version of each table that was followed, and the state.

    `memory` holds the state of the sequencers by dataset; `location` names the file with it.
    """

    events: int = 0
    followed: Mapping[str, Version] = field(default_factory=dict)
    memory: Mapping[str, pa.Table] = field(default_factory=dict)
    location: str | None = None


class GapStore:
    """Reads and commits steps.

    Every method raises TransientError when the catalogue or the store is unavailable.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def load(self) -> Progress:
        """How far the last step came; nothing before the first."""
        table = load_table(self._catalog, GAPS.table)
        head = head_version(table)
        if head is None or head.state is None:
            return Progress()
        try:
            with open_parquet(table.io, head.state, table=GAPS.table) as parquet:
                rows = parquet.read()
        except AWAY as error:
            raise TransientError(f"the state of {GAPS.table} cannot be read: {error}") from error
        documents: Mapping[str, str] = json.loads((rows.schema.metadata or {})[FOLLOWED_KEY])
        files = hidden_files(self._catalog)
        names = pc.unique(rows["dataset"]).to_pylist()
        return Progress(
            events=head.offsets.get(EVENTS_PARTITION, 0),
            followed={name: Version.from_json(text, files) for name, text in documents.items()},
            memory={
                name: rows.filter(pc.equal(rows["dataset"], name)).select(STATE.names).cast(STATE)
                for name in names
            },
            location=head.state,
        )

    def commit(
        self,
        before: Progress,
        after: Progress,
        events: pa.Table,
        *,
        now: datetime,
        retention: Retention,
    ) -> tuple[Progress, CommitResult]:
        """Make the step from `before` to `after` with its events, which have the table's own columns.

        Raises Fenced when another step was made from `before`: nothing of this one counts.
        """
        table = load_table(self._catalog, GAPS.table)
        location = self._write_state(after)
        rows = _placed(events, first=before.events)
        try:
            files = write(sorted_rows(rows, GAPS.order), table=table) if rows.num_rows else []
        except AWAY as error:
            raise TransientError(f"events cannot be written: {error}") from error
        end = before.events + rows.num_rows
        followed = {name: {0: version.number} for name, version in after.followed.items()}

        def change(head: Version | None) -> Version:
            if (None if head is None else head.state) != before.location:
                raise Fenced(f"{GAPS.table}: another step was made from the same state")
            known = head or Version(
                table=GAPS.table, number=0, committed_at=now, schema_id=0, epoch=EPOCH, offsets={}
            )
            version = known.successor(now=now, offsets={EVENTS_PARTITION: end}, hidden={})
            return replace(version, resume=followed, state=location)

        proposal = Proposal(
            table=GAPS.table,
            epoch=EPOCH,
            change=change,
            expected={EVENTS_PARTITION: before.events if before.location else None},
            files=files,
        )
        result = commit(self._catalog, proposal, retention=retention)
        return replace(after, events=end, location=location), result

    def _write_state(self, progress: Progress) -> str:
        table = load_table(self._catalog, GAPS.table)
        parts = [
            rows.add_column(0, "dataset", pa.array([name] * rows.num_rows, pa.string()))
            for name, rows in sorted(progress.memory.items())
        ]
        schema = pa.schema([("dataset", pa.string()), *STATE])
        documents = {name: version.to_json() for name, version in progress.followed.items()}
        rows = pa.concat_tables([schema.empty_table(), *parts])
        rows = rows.replace_schema_metadata({FOLLOWED_KEY: json.dumps(documents)})
        # Among the data: table buckets refuse metadata with names that Iceberg does not know.
        stream = pa.BufferOutputStream()
        pq.write_table(rows, stream, compression="zstd")
        data = stream.getvalue().to_pybytes()
        location: str = table.location_provider().new_data_location(named_by_digest(data, "-gaps.parquet"))
        try:
            with table.io.new_output(location).create() as output:
                output.write(data)
        except AWAY as error:
            raise TransientError(f"the state of {GAPS.table} cannot be written: {error}") from error
        return location


def _placed(events: pa.Table, *, first: int) -> pa.Table:
    """The events with their numbers as places."""
    count = events.num_rows
    return (
        events.select(arrow_schema_of(GAPS.schema).names)
        .append_column("kafka_epoch", pa.array([EPOCH] * count, pa.int32()))
        .append_column("kafka_partition", pa.array([EVENTS_PARTITION] * count, pa.int32()))
        .append_column("kafka_offset", pa.array(range(first, first + count), pa.int64()))
    )
