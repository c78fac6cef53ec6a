"""Data files written anew: the same rows, or all but some, sorted, and proved to be so before any commit.

The proof is a count and a digest that does not depend on the order of rows: the sum, modulo 2^64, of a hash
of each row over all its columns. Both are taken of the files that are read and of those that were written,
read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2common.columnar.sorting import sorted_rows
from k2common.errors import TransientError
from k2common.iceberg.catalog import AWAY
from k2common.iceberg.commit import Change, CommitResult, Proposal, commit
from k2common.iceberg.documents import head_version
from k2common.iceberg.expiry import Retention
from k2common.iceberg.files import write
from k2common.versions import Version

SEED = 1
MODULUS = 2**64


class ProofFailed(RuntimeError):
    """The rows that were written are not those that were read; nothing was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A count of rows and their digest."""

    rows: int
    digest: int

    @classmethod
    def of(cls, rows: pa.Table) -> Proof:
        """The proof of these rows, whatever their order."""
        if not rows.num_rows:
            return cls(rows=0, digest=0)
        names = sorted(rows.column_names)
        frame: Any = pl.from_arrow(rows.select(names))
        hashes = frame.hash_rows(seed=SEED).to_numpy()
        return cls(rows=rows.num_rows, digest=int(hashes.sum(dtype="uint64")))

    def __add__(self, other: Proof) -> Proof:
        return Proof(rows=self.rows + other.rows, digest=(self.digest + other.digest) % MODULUS)


NOTHING = Proof(rows=0, digest=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """Files that no commit names yet, and the rows that they leave out."""

    files: Sequence[DataFile]
    before: Proof
    after: Proof
    left_out: pa.Table


def live_files(table: Table) -> list[DataFile]:
    """The data files of the table's head."""
    snapshot = table.current_snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(table.io)
    return [
        entry.data_file
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


def packed(files: Sequence[DataFile], max_rows: int) -> list[list[DataFile]]:
    """The files in their order, in groups of at most `max_rows`; a file with more stands alone."""
    groups: list[list[DataFile]] = []
    rows = max_rows
    for file in files:
        if rows + file.record_count > max_rows:
            groups.append([])
            rows = 0
        groups[-1].append(file)
        rows += file.record_count
    return groups


def rewrite(
    files: Sequence[DataFile],
    *,
    table: Table,
    order: Sequence[str],
    without: Set[str] = frozenset(),
) -> Rewritten:
    """The rows of the files in new ones, sorted by `order`, but for those of the uploads `without`.

    Holds all rows in memory. Raises ProofFailed when what was written is not what was read, TransientError
    when the warehouse does not answer.
    """
    try:
        rows = _read([file.file_path for file in files], table.io)
        kept, left_out = _split(rows, without)
        before, after_leaving = Proof.of(rows), Proof.of(left_out)
        del rows
        written = write(sorted_rows(kept, order), table=table) if kept.num_rows else []
        del kept
        after = sum((Proof.of(_read([file.file_path], table.io)) for file in written), NOTHING)
    except AWAY as error:
        raise TransientError(f"files of {'.'.join(table.name())} cannot be rewritten: {error}") from error
    if after + after_leaving != before:
        raise ProofFailed(f"{'.'.join(table.name())}: {before} was read, {after} written")
    return Rewritten(files=written, before=before, after=after, left_out=left_out)


def commit_rewritten(
    catalog: Catalog,
    table: Table,
    files: Sequence[DataFile],
    rewritten: Rewritten,
    *,
    change: Change | None = None,
    retention: Retention | None = None,
) -> CommitResult:
    """Put the new files in the place of the old ones; the version stays unless `change` makes another.

    Raises what `commit` raises; FilesGone when other maintenance was faster.
    """
    head = head_version(table)
    if head is None:
        raise TransientError(f"{'.'.join(table.name())} has no version")
    proposal = Proposal(
        table=head.table,
        epoch=head.epoch,
        change=change or _same,
        files=rewritten.files,
        removed=frozenset(file.file_path for file in files),
        same_version=change is None,
        origin=_summary(rewritten),
    )
    return commit(catalog, proposal, retention=retention)


def _same(head: Version | None) -> Version:
    if head is None:
        raise ValueError("a table without a version has no files to rewrite")
    return head


def _summary(rewritten: Rewritten) -> Mapping[str, str]:
    before, after = rewritten.before, rewritten.after
    return {
        "k2.rows-before": str(before.rows),
        "k2.rows-after": str(after.rows),
        "k2.digest-before": f"{before.digest:016x}",
        "k2.digest-after": f"{after.digest:016x}",
    }


def _read(paths: Sequence[str], io: FileIO) -> pa.Table:
    tables = []
    for path in paths:
        with io.new_input(path).open() as stream:
            # A file of an older schema lacks columns that others have.
            tables.append(pq.ParquetFile(stream).read())
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _split(rows: pa.Table, without: Set[str]) -> tuple[pa.Table, pa.Table]:
    if not without:
        return rows, rows.slice(0, 0)
    mask = pc.fill_null(pc.is_in(rows["upload_id"], pa.array(sorted(without), pa.string())), False)
    return rows.filter(pc.invert(mask)), rows.filter(mask)
