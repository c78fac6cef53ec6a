"""What a table is made of now: versions, snapshots, files, rows, bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY
from k2common.iceberg.files.avro_files import manifests_of
from k2common.iceberg.files.manifests import files_of
from k2common.iceberg.maintenance.rewrite import Bounds
from k2common.iceberg.versions.documents import head_version
from k2common.versions.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Counts of the table as loaded.

    `small_files` may be merged with others; `metadata_files` are those that the table's own log names.
    """

    head: Version | None
    snapshots: int
    data_files: int
    small_files: int
    rows: int
    bytes: int
    manifests: int
    metadata_files: int


def inventory(table: Table, *, bounds: Bounds) -> Inventory:
    """Read the newest manifests and count.

    Raises TransientError when the warehouse does not answer.
    """
    snapshot, name = table.current_snapshot(), ".".join(table.name())
    try:
        manifests = manifests_of(snapshot, table)
        files = [file for manifest in manifests for file in files_of(manifest, table.io, table=name)]
    except AWAY as error:
        raise TransientError(f"{'.'.join(table.name())} cannot be read: {error}") from error
    return Inventory(
        head=head_version(table),
        snapshots=len(table.metadata.snapshots),
        data_files=len(files),
        small_files=sum(not bounds.is_large(file) for file in files),
        rows=sum(file.record_count for file in files),
        bytes=sum(file.file_size_in_bytes for file in files),
        manifests=len(manifests),
        metadata_files=1 + len(table.metadata.metadata_log),
    )
