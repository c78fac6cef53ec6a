"""Data files that are damaged or missing, and their replacement by rebuilt rows that are proved first.

Manifests outlive the files that they name. So the rows that a lost file held can be proved by its entry: the
number of rows, and for every column the values, the nulls, the lower and the upper bound. Of a damaged file
every column chunk whose checksums still fit is compared with the rebuilt rows as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, IntegerType, LongType, StringType

from k2common.columnar.sorting import sorted_rows
from k2common.errors import DataFault, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, Catalog, load_table
from k2common.iceberg.commits.commit import DEFAULT_ATTEMPTS, CommitResult
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.avro_files import manifests_of
from k2common.iceberg.files.data_files import PLACE_COLUMNS, EncodedFile, encoded
from k2common.iceberg.files.digests import digest_in
from k2common.iceberg.files.manifests import LiveFile, entries_of
from k2common.iceberg.files.verification import open_parquet
from k2common.iceberg.maintenance.rewrite import (
    NOTHING,
    Proof,
    ProofFailed,
    RewrittenFiles,
    aligned_to,
    commit_rewritten,
    live_files,
)
from k2common.iceberg.maintenance.scrub import Scrubber
from k2common.iceberg.reading.plan import Footer, read_footer
from k2common.iceberg.versions.documents import head_version
from k2common.versions.version import Version

UNLIMITED = 2**62
Mask = npt.NDArray[np.bool_]
Bounds = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostFile:
    """A live data file that is damaged or missing, and what its manifest still says of it.

    `bounds` are lower and upper bounds of its integers and texts, those of texts are prefixes. `footer` is
    there for a damaged file whose footer is whole.
    """

    live: LiveFile
    entry: DataFile
    fault: DataFault
    bounds: Bounds
    footer: Footer | None = None

    @property
    def path(self) -> str:
        return self.live.file_path

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def day(self) -> int | None:
        """The day since 1970 that the file's partition is of; None where the table has no partitions."""
        return self.entry.partition[0] if len(self.entry.partition) else None

    def may_hold(self, rows: pa.Table) -> Mask:
        """Return a mask of the rows that may lie in this file, by the bounds and the footer."""
        kept = np.ones(rows.num_rows, bool)
        for name, (lower, upper) in self.bounds.items():
            column = rows[name]
            inside = pc.and_(pc.greater_equal(column, lower), pc.less_equal(column, upper))
            kept &= pc.fill_null(inside, True).to_numpy(zero_copy_only=False)
        if self.footer is not None and self.footer.ranges:
            kept &= self._in_ranges(rows)
        return kept

    def _in_ranges(self, rows: pa.Table) -> Mask:
        epochs, partitions, offsets = (rows[name].to_numpy() for name in PLACE_COLUMNS)
        found = np.zeros(rows.num_rows, bool)
        for held in self.footer.ranges if self.footer else ():
            inside = (offsets >= held.first) & (offsets < held.end)
            found |= inside & (epochs == held.epoch) & (partitions == held.partition)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LostFiles:
    """The lost files of one table, and its others with the bounds of their offsets; `verified` counts all."""

    table: Table
    head: Version
    lost: Sequence[LostFile] = ()
    whole: Sequence[tuple[LiveFile, Bounds]] = ()

    @property
    def verified(self) -> int:
        return len(self.lost) + len(self.whole)

    def groups(self) -> list[list[LostFile]]:
        """Return the lost files of each partition."""
        found: dict[tuple[str, int], list[LostFile]] = defaultdict(list)
        for file in self.lost:
            found[(file.live.partition, file.live.spec_id)].append(file)
        return list(found.values())

    def positions(self, first: int, end: int) -> Iterator[pa.Table]:
        """Yield the positions of the rows of each whole file that may hold offsets in [first, end).

        Raises DataDamaged, DataMissing, and TransientError when the warehouse does not answer.
        """
        for file, bounds in self.whole:
            lower, upper = bounds.get("kafka_offset", (first, end))
            if lower < end and upper >= first:
                try:
                    with open_parquet(self.table.io, file.file_path, table=self.head.table) as parquet:
                        yield parquet.read(columns=PLACE_COLUMNS)
                except AWAY as error:
                    raise TransientError(f"{self.head.table} cannot be read") from error


def find_lost(catalog: Catalog, name: str) -> LostFiles | None:
    """Verify every live data file of the table; None for a table without a version.

    Raises DataDamaged or DataMissing for a manifest, ForeignDeletes as `live_files`, TransientError when the
    catalogue or the warehouse does not answer.
    """
    scrubber = Scrubber(catalog, name, period_seconds=0)
    scrubber.scrub(now=0, max_bytes=UNLIMITED)
    table = load_table(catalog, name)
    head = head_version(table)
    if head is None:
        return None
    entries = _entries(table)
    lost: list[LostFile] = []
    whole: list[tuple[LiveFile, Bounds]] = []
    for live in live_files(table):
        entry = entries[live.file_path]
        bounds, fault = _bounds(entry, table), scrubber.faults.get(live.file_path)
        if fault is None:
            whole.append((live, bounds))
        else:
            footer = _footer(live, table)
            lost.append(LostFile(live=live, entry=entry, fault=fault, bounds=bounds, footer=footer))
    return LostFiles(table=table, head=head, lost=lost, whole=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedFiles:
    """Rows that take the place of `lost`, encoded; nothing of them is stored.

    `proofs` says what was compared besides the manifest's statistics.
    """

    lost: Sequence[LostFile]
    rows: pa.Table
    file: EncodedFile
    proofs: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """Why the rebuilt rows are not those of the file."""

    lost: LostFile
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What became of the lost files of one partition."""

    proved: Sequence[ProvedFiles] = field(default=())
    unproved: Sequence[Unproved] = field(default=())


def prove(lost: Sequence[LostFile], rows: pa.Table, *, table: Table, order: Sequence[str]) -> Proofs:
    """Compare rebuilt rows with what is known of the lost files of one partition.

    A file whose rows can be in no other one is proved by itself, the others together.
    """
    masks = [file.may_hold(rows) for file in lost]
    claims = np.sum(masks, axis=0) if masks else np.zeros(rows.num_rows, np.int64)
    alone = [n for n, mask in enumerate(masks) if (claims[mask] == 1).all()]
    shared = [n for n in range(len(lost)) if n not in alone]
    proved: list[ProvedFiles] = []
    unproved: list[Unproved] = []
    for members in [[n] for n in alone] + ([shared] if shared else []):
        files = [lost[n] for n in members]
        mask = np.any([masks[n] for n in members], axis=0)
        found = _proved(files, rows.filter(pa.array(mask)), table, order)
        if isinstance(found, ProvedFiles):
            proved.append(found)
        else:
            unproved += [Unproved(lost=file, reason=found) for file in files]
    return Proofs(proved=proved, unproved=unproved)


def replace_lost(
    catalog: Catalog,
    table: Table,
    proved: ProvedFiles,
    *,
    retention: Retention | None = None,
    attempts: int = DEFAULT_ATTEMPTS,
) -> CommitResult:
    """Store the proved rows and commit them in the place of the lost files; the version stays.

    Raises FilesGone when the table no longer has the files, ProofFailed when the encoded rows are others,
    and what `commit` raises.
    """
    proof = Proof.of(proved.rows)
    stored = pq.ParquetFile(pa.BufferReader(proved.file.content)).read()
    if Proof.of(aligned_to(stored, table)) != proof:
        raise ProofFailed(f"{'.'.join(table.name())}: the encoded rows are not the rebuilt ones")
    try:
        proved.file.store(table)
    except AWAY as error:
        raise TransientError(f"{'.'.join(table.name())} cannot be written to: {error}") from error
    files = [proved.file.data_file]
    rewritten = RewrittenFiles(files=files, before=proof, after=proof, left_out=NOTHING)
    live = [file.live for file in proved.lost]
    return commit_rewritten(catalog, table, live, rewritten, retention=retention, attempts=attempts)


def _proved(
    lost: Sequence[LostFile], rows: pa.Table, table: Table, order: Sequence[str]
) -> ProvedFiles | str:
    wanted = sum(file.live.record_count for file in lost)
    if rows.num_rows != wanted:
        return f"{rows.num_rows} rows were rebuilt, the manifest says {wanted}"
    rows = sorted_rows(aligned_to(rows, table), order)
    files = list(encoded(rows, table=table))
    if len(files) != 1:
        return "the rebuilt rows are of several partitions"
    (file,) = files
    if different := _different_statistics([one.entry for one in lost], file.data_file, table):
        return f"the statistics of {', '.join(different)} are not those of the manifest"
    proofs = ["statistics"]
    if len(lost) == 1:
        compared = _compare_columns(lost[0], file, table)
        if isinstance(compared, str):
            return compared
        proofs += ["columns"] if compared else []
        if _is_same_file(lost[0], file):
            proofs.append("sha256")
    return ProvedFiles(lost=lost, rows=aligned_to(rows, table), file=file, proofs=proofs)


def _is_same_file(lost: LostFile, file: EncodedFile) -> bool:
    named, rebuilt = digest_in(lost.path), digest_in(file.data_file.file_path)
    return named is not None and rebuilt is not None and named.whole == rebuilt.whole


def _compare_columns(lost: LostFile, file: EncodedFile, table: Table) -> int | str:
    """Return how many column chunks of a damaged file hold what was rebuilt; a reason where others do not.

    A checksum covers the data of a page and not its header, so the chunk that is damaged may be read as other
    values: one chunk may differ if no other one is unreadable.
    """
    if lost.footer is None:
        return 0
    rebuilt = pq.ParquetFile(pa.BufferReader(file.content))
    equal, different, unreadable = 0, list[str](), 0
    with table.io.new_input(lost.path).open() as stream:
        source: Any = stream
        damaged = pq.ParquetFile(source, page_checksum_verification=True)
        if damaged.num_row_groups != rebuilt.num_row_groups:
            return 0
        for group in range(damaged.num_row_groups):
            for name in damaged.schema_arrow.names:
                found = _readable(damaged, group, name)
                expected = rebuilt.read_row_group(group, columns=[name])[name]
                if found is None:
                    unreadable += 1
                elif found[name].type == expected.type and found[name].equals(expected):
                    equal += 1
                else:
                    different.append(name)
    if different and len(different) + unreadable > 1:
        return f"whole columns of the damaged file hold other values: {', '.join(sorted(set(different)))}"
    return equal


def _readable(parquet: pq.ParquetFile, group: int, name: str) -> pa.Table | None:
    try:
        return parquet.read_row_group(group, columns=[name])
    # Whatever the library says of the column that is damaged.
    except (OSError, ValueError, pa.ArrowException):
        return None


def _different_statistics(entries: Sequence[DataFile], found: DataFile, table: Table) -> list[str]:
    """Return the columns of which the file's statistics are not those that the entries have together."""
    different = []
    for column, number, kind in _leaves(table):
        for counts in ("value_counts", "null_value_counts"):
            known = [n for entry in entries if (n := (getattr(entry, counts) or {}).get(number)) is not None]
            total = (getattr(found, counts) or {}).get(number)
            if len(known) == len(entries) and sum(known) != total:
                different.append(column)
        for bounds, choose in (("lower_bounds", min), ("upper_bounds", max)):
            held = [value for entry in entries if (value := _bound(entry, bounds, number, kind)) is not None]
            known_all = all(
                _bound(entry, bounds, number, kind) is not None or _is_all_null(entry, number)
                for entry in entries
            )
            if held and known_all and choose(held) != _bound(found, bounds, number, kind):
                different.append(column)
    return sorted(set(different))


def _leaves(table: Table) -> Iterator[tuple[str, int, IcebergType]]:
    schema = table.schema()
    for number in sorted(schema.field_ids):
        if (kind := schema.find_type(number)).is_primitive:
            yield schema.find_column_name(number) or str(number), number, kind


def _bound(entry: DataFile, bounds: str, number: int, kind: IcebergType) -> Any:
    packed = (getattr(entry, bounds) or {}).get(number)
    return None if packed is None else from_bytes(kind, packed)  # type: ignore[arg-type] # primitives alone


def _is_all_null(entry: DataFile, number: int) -> bool:
    values = (entry.value_counts or {}).get(number)
    return values is not None and values == (entry.null_value_counts or {}).get(number)


def _bounds(entry: DataFile, table: Table) -> Bounds:
    """Return the bounds of the columns that hold integers or texts."""
    found = {}
    for column in table.schema().fields:
        if isinstance(column.field_type, (IntegerType, LongType, StringType)):
            kind, number = column.field_type, column.field_id
            lower, upper = (_bound(entry, name, number, kind) for name in ("lower_bounds", "upper_bounds"))
            if lower is not None and upper is not None:
                found[column.name] = (lower, upper)
    return found


def _footer(live: LiveFile, table: Table) -> Footer | None:
    """Return the footer of a damaged file where its bytes are those that the name has the digest of."""
    named = digest_in(live.file_path)
    if named is None or named.footer is None:
        return None
    try:
        return read_footer(live.file_path, io=table.io, table=".".join(table.name()))
    except DataFault:
        return None
    except AWAY as error:
        raise TransientError(f"{'.'.join(table.name())} cannot be read") from error


def _entries(table: Table) -> Mapping[str, DataFile]:
    name = ".".join(table.name())
    try:
        return {
            entry.data_file.file_path: entry.data_file
            for manifest in manifests_of(table.current_snapshot(), table)
            for entry in entries_of(manifest, table.io, table=name)
        }
    except AWAY as error:
        raise TransientError(f"{name} cannot be read") from error
