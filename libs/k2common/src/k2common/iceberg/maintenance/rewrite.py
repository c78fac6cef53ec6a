"""Data files rewritten: the same rows, or all but some, sorted, and proved to be so before any commit.

The proof is a count and a digest that does not depend on the order of rows: the sum, modulo 2^64, of a hash
of each row over all the table's columns. Both are taken of the files that are read and of those that were
written, read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table

from k2common.columnar.sorting import sorted_rows
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY
from k2common.iceberg.commits.commit import DEFAULT_ATTEMPTS, Change, CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.avro_files import manifests_of
from k2common.iceberg.files.data_files import write
from k2common.iceberg.files.manifests import LiveFile, SizedFile, files_of
from k2common.iceberg.files.verification import open_parquet
from k2common.iceberg.versions.documents import head_version
from k2common.versions.version import Version

SEED = 1
MODULUS = 2**64
HASHED_ROWS = 65_536
MAX_BYTES = 64 * 1024 * 1024


class ProofFailed(RuntimeError):
    """The rows that were written are not those that were read; nothing was committed."""


class ForeignDeletes(RuntimeError):
    """Rewriting would bring back rows that another engine has deleted; it has to rewrite the files itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A count of rows and their digest."""

    rows: int
    digest: int

    @classmethod
    def of(cls, rows: pa.Table) -> Proof:
        """The proof of these rows, whatever their order."""
        names = sorted(rows.column_names)
        digest = 0
        for first in range(0, rows.num_rows, HASHED_ROWS):
            frame: Any = pl.from_arrow(rows.select(names).slice(first, HASHED_ROWS))
            digest += int(frame.hash_rows(seed=SEED).to_numpy().sum(dtype="uint64"))
        return cls(rows=rows.num_rows, digest=digest % MODULUS)

    def __add__(self, other: Proof) -> Proof:
        return Proof(rows=self.rows + other.rows, digest=(self.digest + other.digest) % MODULUS)


NOTHING = Proof(rows=0, digest=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """At most so many rows, and bytes of compressed files, are rewritten at a time."""

    rows: int
    bytes: int

    def is_large(self, file: SizedFile) -> bool:
        """Whether the file is as large as rewriting can be trusted to make it."""
        return 2 * file.record_count >= self.rows or 2 * file.file_size_in_bytes >= self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrittenFiles:
    """Files that no commit names yet; `left_out` is of the rows that are not in them."""

    files: Sequence[DataFile]
    before: Proof
    after: Proof
    left_out: Proof


def live_files(table: Table) -> list[LiveFile]:
    """The data files of the table's head, those of the oldest manifests first.

    Raises ForeignDeletes when another engine has deleted rows in files of their own, TransientError when the
    warehouse does not answer.
    """
    snapshot, name = table.current_snapshot(), ".".join(table.name())
    try:
        manifests = manifests_of(snapshot, table)
        of = [(manifest, files_of(manifest, table.io, table=name)) for manifest in reversed(manifests)]
    except AWAY as error:
        raise TransientError(f"{'.'.join(table.name())} cannot be read: {error}") from error
    files: list[LiveFile] = []
    for manifest, listed in of:
        if listed and manifest.content != ManifestContent.DATA:
            raise ForeignDeletes(f"{'.'.join(table.name())} has delete files of another engine")
        files += listed
    return files


def packed(files: Sequence[LiveFile], bounds: Bounds) -> list[list[LiveFile]]:
    """The files in their order, in groups within the bounds; a file beyond them stands alone."""
    groups: list[list[LiveFile]] = []
    rows = size = 0
    for file in files:
        rows, size = rows + file.record_count, size + file.file_size_in_bytes
        if not groups or rows > bounds.rows or size > bounds.bytes:
            groups.append([])
            rows, size = file.record_count, file.file_size_in_bytes
        groups[-1].append(file)
    return groups


def rewrite(
    files: Sequence[LiveFile],
    *,
    table: Table,
    order: Sequence[str],
    bounds: Bounds,
    without: Set[str] = frozenset(),
) -> RewrittenFiles:
    """The rows of the files in new ones, sorted by `order`, but for those of the uploads `without`.

    Holds the rows of `bounds` in memory: files beyond them are rewritten piece by piece. Raises ProofFailed
    when what was written is not what was read, TransientError when the warehouse does not answer.
    """
    before, left_out, after = NOTHING, NOTHING, NOTHING
    written: list[DataFile] = []
    try:
        for rows in _pieces(files, table, bounds.rows):
            before += Proof.of(rows)
            kept, gone = _split(rows, without)
            left_out += Proof.of(gone)
            if kept.num_rows:
                written += write(sorted_rows(kept, order), table=table)
        for rows in _pieces(written, table, HASHED_ROWS):
            after += Proof.of(rows)
    except AWAY as error:
        raise TransientError(f"files of {'.'.join(table.name())} cannot be rewritten: {error}") from error
    if after + left_out != before:
        raise ProofFailed(
            f"{'.'.join(table.name())}: {before} was read, {left_out} left out, {after} written"
        )
    return RewrittenFiles(files=written, before=before, after=after, left_out=left_out)


def commit_rewritten(
    catalog: Catalog,
    table: Table,
    files: Sequence[LiveFile],
    rewritten: RewrittenFiles,
    *,
    change: Change | None = None,
    retention: Retention | None = None,
    attempts: int = DEFAULT_ATTEMPTS,
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
    return commit(catalog, proposal, retention=retention, attempts=attempts)


def _same(head: Version | None) -> Version:
    if head is None:
        raise ValueError("a table without a version has no files to rewrite")
    return head


def _summary(rewritten: RewrittenFiles) -> Mapping[str, str]:
    before, after, left_out = rewritten.before, rewritten.after, rewritten.left_out
    return {
        "k2.rows-before": str(before.rows),
        "k2.rows-after": str(after.rows),
        "k2.digest-before": f"{before.digest:016x}",
        "k2.digest-after": f"{after.digest:016x}",
        "k2.rows-left-out": str(left_out.rows),
        "k2.digest-left-out": f"{left_out.digest:016x}",
    }


def _pieces(files: Sequence[LiveFile | DataFile], table: Table, max_rows: int) -> Iterator[pa.Table]:
    """The rows of the files, row groups of at most `max_rows` at a time or a single one."""
    kinds = schema_to_pyarrow(table.schema(), include_field_ids=False)
    held: list[pa.Table] = []
    name = ".".join(table.name())
    for file in files:
        with open_parquet(table.io, file.file_path, table=name) as parquet:
            for group in range(parquet.num_row_groups):
                rows = sum(piece.num_rows for piece in held) + parquet.metadata.row_group(group).num_rows
                if held and rows > max_rows:
                    yield pa.concat_tables(held)
                    held = []
                held.append(_aligned(parquet.read_row_group(group), kinds))
    if held:
        yield pa.concat_tables(held)


def aligned_to(rows: pa.Table, table: Table) -> pa.Table:
    """Return the rows with the table's columns and types; a column that they lack is null."""
    return _aligned(rows, schema_to_pyarrow(table.schema(), include_field_ids=False))


def _aligned(rows: pa.Table, kinds: pa.Schema) -> pa.Table:
    """The table's columns; a file of an older schema lacks some, or has them narrower."""
    columns = {}
    for field in kinds:
        kind = _small(field.type)
        given = rows[field.name] if field.name in rows.column_names else None
        columns[field.name] = pa.nulls(rows.num_rows, kind) if given is None else given.cast(kind)
    return pa.table(columns)


def _small(kind: Any) -> Any:
    """The type with offsets of 32 bits, which what is read at a time never passes."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(kind.value_field.with_type(_small(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(_small(kind.key_type), _small(kind.item_type))
    return kind


def _split(rows: pa.Table, without: Set[str]) -> tuple[pa.Table, pa.Table]:
    if not without:
        return rows, rows.slice(0, 0)
    mask = pc.fill_null(pc.is_in(rows["upload_id"], pa.array(sorted(without), pa.string())), False)
    return rows.filter(pc.invert(mask)), rows.filter(mask)
