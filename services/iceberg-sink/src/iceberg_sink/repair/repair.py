"""Repair of a table: its lost files are found, their rows rebuilt from the archive, proved, and committed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.iceberg.files.snapshot_writer import FilesGone
from k2common.iceberg.maintenance.repair import (
    LostFile,
    LostFiles,
    ProvedFiles,
    find_lost,
    prove,
    replace_lost,
)
from k2common.iceberg.maintenance.rewrite import ProofFailed
from k2common.iceberg.reading.predicates import equal, everything
from k2common.iceberg.reading.reader import UnknownVersion, VersionGone
from k2common.iceberg.reading.rows import scan_rows
from k2common.layouts.upload import UploadSpec
from k2common.observability.logging import get_logger
from k2common.query.instruments import Instruments
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import DEAD_LETTERS, INSTRUMENTS, MARKET_DATASETS, REJECTS, UPLOADS, Dataset

from iceberg_sink.repair.lost_offsets import LostOffsets, columns_of
from iceberg_sink.repair.upload_evidence import KnownUploads, NamedRows, UploadEvidence, add_receipts
from iceberg_sink.repair.upload_rows import POSITION, NotRebuilt, UploadRows

LETTER_POSITION = ("topic_epoch", "topic_partition", "topic_offset")
REPAIRABLE: Mapping[str, Dataset] = {
    dataset.table: dataset for dataset in (INSTRUMENTS, *MARKET_DATASETS.values(), REJECTS)
}
"""The tables whose rows come from uploads; first the one that is needed to parse others' uploads."""
REPLACED_MEANWHILE = "other maintenance has replaced the file meanwhile"
DAY_US = 86_400_000_000
log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What became of one lost file.

    `uploads` counts the rebuilt rows by upload, `proofs` says what they were compared with. `reason` says why
    the file was not repaired.
    """

    name: str
    fault: str
    rows: int
    state: str
    uploads: Mapping[str, int] = field(default_factory=dict)
    proofs: Sequence[str] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair of a table found and did; `verified` counts all live files."""

    table: str
    dry_run: bool
    verified: int = 0
    files: Sequence[FileReport] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairDependencies:
    """What the repair of every table needs."""

    catalog: Catalog
    archive: Archive
    evidence: UploadEvidence
    statuses: MessageCodec
    redrives: MessageCodec
    instruments: Instruments
    blocking: Blocking
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The lost files of one partition, which of their offsets are lost, and the uploads of these."""

    files: Sequence[LostFile]
    lost: LostOffsets
    uploads: Sequence[str]


class TableRepair:
    """Repairs the tables whose rows come from uploads."""

    def __init__(self, dataset: Dataset, dependencies: RepairDependencies) -> None:
        self._dataset = dataset
        self._dependencies = dependencies
        self._rows = UploadRows(dependencies.archive, dataset)
        self._lock = asyncio.Lock()

    async def run_repair(self, *, dry_run: bool) -> RepairReport:
        """Repair what can be proved; with `dry_run` nothing is stored or committed.

        Repairs of one table follow each other; another process that is faster makes this one say so.

        Raises ForeignDeletes for a table in which another engine has deleted rows, DataDamaged or DataMissing
        for a manifest, TransientError when Kafka, the catalogue or the warehouse does not answer.
        """
        async with self._lock:
            return await self._repair(dry_run)

    async def _repair(self, dry_run: bool) -> RepairReport:
        needs, table = self._dependencies, self._dataset.table
        found = await needs.blocking.run(find_lost, needs.catalog, table)
        if found is None or not found.lost:
            return RepairReport(table=table, dry_run=dry_run, verified=found.verified if found else 0)
        named = await self._named_rows()
        groups = await needs.blocking.run(self._groups, found, named)
        known = await self._known({upload for group in groups for upload in group.uploads}, found)
        reports = [
            report
            for group in groups
            for report in await self._repair_group(group, found, named, known, dry_run)
        ]
        return RepairReport(table=table, dry_run=dry_run, verified=found.verified, files=reports)

    async def _named_rows(self) -> Mapping[str, NamedRows]:
        needs, topic = self._dependencies, self._dataset.topic.name
        named = await needs.evidence.named_rows(topic, needs.statuses, needs.redrives)
        if not await needs.evidence.have_statuses_expired():
            return named
        receipts = await needs.blocking.run(self._receipts)
        count = "rejected" if self._dataset is REJECTS else "published"
        return add_receipts(named, receipts, topic, count=count)

    def _receipts(self) -> Sequence[Mapping[str, Any]]:
        """Return the final receipts of the uploads that may have rows in the table."""
        every = everything() if self._dataset is REJECTS else equal("dataset", self._dataset.name)
        rows = scan_rows(self._dependencies.catalog, UPLOADS.table, every)
        return [json.loads(text) for text in rows["receipt"].to_pylist()]

    async def _known(self, wanted: Set[str], found: LostFiles) -> KnownUploads:
        evidence = self._dependencies.evidence
        known = await evidence.known_uploads(wanted)
        unknown = {upload for upload in wanted & found.head.hidden.keys() if upload not in known.specs}
        return KnownUploads(
            specs={**known.specs, **await evidence.specs_of_chunks(unknown)}, withdrawn=known.withdrawn
        )

    def _groups(self, found: LostFiles, named: Mapping[str, NamedRows]) -> list[_Group]:
        topic = self._dataset.topic.name
        letters = scan_rows(self._dependencies.catalog, DEAD_LETTERS.table, equal("topic", topic))
        groups = []
        for files in found.groups():
            # Without bounds another engine has written the file: no upload is found for it.
            bounds = [file.bounds.get("kafka_offset", (0, -1)) for file in files]
            first, end = min(lower for lower, _ in bounds), max(upper for _, upper in bounds) + 1
            lost = LostOffsets(first, end, head=found.head)
            for one in named.values():
                lost.add_named(one)
            for positions in found.positions(first, end):
                lost.remove(*columns_of(positions, POSITION))
            lost.remove(*columns_of(letters, LETTER_POSITION))
            uploads = [upload for upload, one in named.items() if lost.has_any(one)]
            groups.append(_Group(files=files, lost=lost, uploads=sorted(uploads)))
        return groups

    async def _repair_group(
        self,
        group: _Group,
        found: LostFiles,
        named: Mapping[str, NamedRows],
        known: KnownUploads,
        dry_run: bool,
    ) -> Sequence[FileReport]:
        tables: list[pa.Table] = []
        trouble: list[str] = []
        for upload_id in group.uploads:
            spec = known.specs.get(upload_id)
            try:
                if spec is None:
                    raise NotRebuilt("it was purged, or no claim says how its file is parsed")
                if self._is_elsewhere(upload_id, group, found, known):
                    continue
                tables.append(await self._rebuilt(spec, named[upload_id], group))
            except NotRebuilt as error:
                trouble.append(f"upload {upload_id}: {error}")
        return await self._dependencies.blocking.run(self._settle, group, found, tables, trouble, dry_run)

    def _is_elsewhere(self, upload_id: str, group: _Group, found: LostFiles, known: KnownUploads) -> bool:
        """Whether no row of the upload was in the lost files, though the table has not all of them."""
        if self._dataset.visibility and known.is_purged(upload_id, found.head.hidden.keys()):
            return True
        uploads = [file.footer.uploads if file.footer else None for file in group.files]
        return all(held is not None and upload_id not in held for held in uploads)

    async def _rebuilt(self, spec: UploadSpec, named: NamedRows, group: _Group) -> pa.Table:
        needs = self._dependencies
        try:
            index = await needs.instruments.at(spec.instruments_version)
        except (UnknownVersion, VersionGone) as error:
            raise NotRebuilt(f"its reference data cannot be read: {error}") from error
        rows = await needs.blocking.run(self._rows.rebuild, spec, named, index, lost=group.lost.has)
        return rows.filter(pa.array(_in_partition(rows, group.files[0], self._dataset)))

    def _settle(
        self,
        group: _Group,
        found: LostFiles,
        tables: Sequence[pa.Table],
        trouble: Sequence[str],
        dry_run: bool,
    ) -> Sequence[FileReport]:
        because = "; ".join(trouble)
        if not tables:
            reason = because or "no upload is known whose rows the file held"
            return [_report(file, reason=reason) for file in group.files]
        rows = _with_one_epoch(pa.concat_tables(tables), group.files)
        proofs = prove(group.files, rows, table=found.table, order=self._dataset.order)
        reports = [
            _report(one.lost, reason="; ".join(filter(None, (one.reason, because))))
            for one in proofs.unproved
        ]
        for proved in proofs.proved:
            reports += self._replace(proved, found, dry_run)
        return reports

    def _replace(self, proved: ProvedFiles, found: LostFiles, dry_run: bool) -> Sequence[FileReport]:
        if not dry_run:
            try:
                needs = self._dependencies
                replace_lost(needs.catalog, found.table, proved, attempts=needs.attempts)
            except FilesGone:
                return [_report(file, reason=REPLACED_MEANWHILE) for file in proved.lost]
            except ProofFailed as error:
                return [_report(file, reason=str(error)) for file in proved.lost]
        reports = [
            _report(file, state="repairable" if dry_run else "repaired", proved=proved)
            for file in proved.lost
        ]
        for file in () if dry_run else proved.lost:
            log.info("data file repaired", table=self._dataset.table, path=file.path, proofs=proved.proofs)
        return reports


def _report(
    file: LostFile, *, state: str = "refused", reason: str | None = None, proved: ProvedFiles | None = None
) -> FileReport:
    uploads: dict[str, int] = {}
    if proved is not None:
        counts = proved.rows["upload_id"].value_counts()
        uploads = dict(sorted((one["values"].as_py(), one["counts"].as_py()) for one in counts))
    return FileReport(
        name=file.name,
        fault=file.fault.kind,
        rows=file.live.record_count,
        state=state,
        uploads=uploads,
        proofs=() if proved is None else proved.proofs,
        reason=reason,
    )


def _in_partition(rows: pa.Table, file: LostFile, dataset: Dataset) -> Any:
    """Return a mask of the rows that belong to the file's partition, a day."""
    if dataset.partition_by is None:
        return np.ones(rows.num_rows, bool)
    days = pc.cast(rows[dataset.partition_by], pa.int64()).to_numpy() // DAY_US
    return days == file.day


def _with_one_epoch(rows: pa.Table, files: Sequence[LostFile]) -> pa.Table:
    """Return the rows in the epoch in which the sink wrote them.

    A status may be of an earlier epoch than its rows, where a new epoch has gone on with the same log.
    """
    bounds = {file.bounds.get("kafka_epoch") for file in files}
    if len(bounds) != 1 or (found := bounds.pop()) is None or found[0] != found[1]:
        return rows
    epochs = pa.array(np.full(rows.num_rows, found[0], np.int32))
    return rows.set_column(rows.column_names.index("kafka_epoch"), "kafka_epoch", epochs)
