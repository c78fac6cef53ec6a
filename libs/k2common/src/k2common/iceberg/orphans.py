"""Files that no live snapshot names: conflicts and kills leave them, compaction makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from k2common.errors import TransientError
from k2common.iceberg.catalog import AWAY, load_table


def referenced(table: Table) -> frozenset[str]:
    """Every file that a live snapshot or the table's own log names."""
    metadata = table.metadata
    found = {table.metadata_location, *(old.metadata_file for old in metadata.metadata_log)}
    found |= {statistics.statistics_path for statistics in metadata.statistics}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    found |= manifests.keys()
    for manifest in manifests.values():
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        found |= {entry.data_file.file_path for entry in entries}
    return frozenset(found)


def collect(catalog: Catalog, name: str, *, before: datetime, dry_run: bool = False) -> Sequence[str]:
    """Delete the files under the table's location that nothing names and that are older than `before`.

    `before` lies longer ago than the longest request and the longest commit: both use files that nothing
    names any more, or yet. Returns their paths. Raises TransientError when the store does not answer.
    """
    try:
        # Listed before the names are read: what is committed in between is not in the list.
        listed = _listed(load_table(catalog, name), before)
        table = load_table(catalog, name)
        known = {_path(location) for location in referenced(table)}
        unknown = [path for path in sorted(listed) if path not in known]
        if unknown and not dry_run:
            filesystem, _ = _filesystem(table)
            for path in unknown:
                filesystem.delete_file(path)
    except AWAY as error:
        raise TransientError(f"{name} cannot be swept: {error}") from error
    return unknown


def _listed(table: Table, before: datetime) -> list[str]:
    filesystem, root = _filesystem(table)
    entries = filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    return [
        entry.path
        for entry in entries
        if entry.type == pafs.FileType.File and entry.mtime is not None and entry.mtime < before
    ]


def _filesystem(table: Table) -> tuple[pafs.FileSystem, str]:
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location(), table.io.properties)
    io = PyArrowFileIO(table.io.properties)
    return io.fs_by_scheme(scheme, netloc), path


def _path(location: str) -> str:
    parts = urlsplit(location)
    return parts.path if parts.scheme in ("", "file") else f"{parts.netloc}{parts.path}"
