"""Files that no live snapshot names: conflicts and kills leave them, compaction and expiry make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.fs as pafs
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.files.avro_files import manifests_of
from k2common.iceberg.files.manifests import files_of
from k2common.iceberg.versions.documents import version_of

FOLDERS = ("data", "metadata")
"""Where tables keep their files; what else lies under a table's location is not touched."""
MAX_REMEMBERED = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found: files that nothing names, with their bytes, and how many of them it deleted."""

    unreferenced: int = 0
    bytes: int = 0
    deleted: int = 0


def referenced(table: Table) -> frozenset[str]:
    """Every file that a live snapshot, its summary or the table's own log names."""
    metadata, name = table.metadata, ".".join(table.name())
    found = {table.metadata_location, *(old.metadata_file for old in metadata.metadata_log)}
    found |= {s.statistics_path for s in (*metadata.statistics, *metadata.partition_statistics)}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests |= {manifest.manifest_path: manifest for manifest in manifests_of(snapshot, table)}
        entries = {} if snapshot.summary is None else snapshot.summary.additional_properties
        found |= {text for text in entries.values() if text.startswith(table.location())}
        version = version_of(snapshot)
        if version is not None and version.state is not None:
            found.add(version.state)
    found |= manifests.keys()
    for manifest in manifests.values():
        found |= {file.file_path for file in files_of(manifest, table.io, table=name)}
    return frozenset(found)


class Sweeper:
    """Deletes files of one table that nothing has named for long enough.

    A file's age does not say since when nothing names it: a reader may be in the middle of a year-old file
    that was compacted a second ago. So a file goes only when an earlier sweep of this object, `guard` ago,
    found it without a name as well, and it is older than `guard` itself. The guard is longer than the longest
    request and the longest commit: both use files that nothing names any more, or yet.
    """

    def __init__(self, catalog: Catalog, name: str, *, guard: timedelta) -> None:
        self._catalog = catalog
        self._name = name
        self._guard = guard
        self._since: dict[str, datetime] = {}

    def sweep(
        self, *, now: datetime, dry_run: bool = False, ended: Callable[[], bool] = lambda: False
    ) -> Swept:
        """One pass. Several at once, in any process, are harmless.

        Raises TransientError when the catalogue or the store does not answer.
        """
        try:
            # Listed before the names are read: what is committed in between is not in the list.
            listed = _listed(load_table(self._catalog, self._name))
            table = load_table(self._catalog, self._name)
            known = {_path(location) for location in referenced(table)}
            unnamed = {path: entry for path, entry in listed.items() if path not in known}
            due = self._due(unnamed, now=now)
            deleted = 0 if dry_run else self._delete(due, table, ended=ended)
        except AWAY as error:
            raise TransientError(f"{self._name} cannot be swept: {error}") from error
        size = sum(entry.size or 0 for entry in unnamed.values())
        return Swept(unreferenced=len(unnamed), bytes=size, deleted=len(due) if dry_run else deleted)

    def _due(self, unnamed: Mapping[str, pafs.FileInfo], *, now: datetime) -> list[str]:
        seen = {path: self._since[path] for path in self._since if path in unnamed}
        for path in unnamed:
            if len(seen) < MAX_REMEMBERED:
                seen.setdefault(path, now)
        self._since = seen
        before = now - self._guard
        return sorted(
            path for path, since in seen.items() if since <= before and _is_older(unnamed[path], before)
        )

    def _delete(self, paths: list[str], table: Table, *, ended: Callable[[], bool]) -> int:
        filesystem, _ = _filesystem(table)
        deleted = 0
        for path in paths:
            if ended():
                break
            try:
                filesystem.delete_file(path)
            except FileNotFoundError:
                continue  # another sweep was faster
            deleted += 1
        return deleted


def _is_older(entry: pafs.FileInfo, before: datetime) -> bool:
    return entry.mtime is not None and entry.mtime <= before


def _listed(table: Table) -> Mapping[str, pafs.FileInfo]:
    filesystem, root = _filesystem(table)
    found: dict[str, pafs.FileInfo] = {}
    for folder in FOLDERS:
        selector = pafs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
        try:
            entries = filesystem.get_file_info(selector)
        except FileNotFoundError:
            continue  # it came, with its first file, while it was looked for
        found |= {entry.path: entry for entry in entries if entry.type == pafs.FileType.File}
    return found


def _filesystem(table: Table) -> tuple[pafs.FileSystem, str]:
    scheme, netloc, path = PyArrowFileIO.parse_location(table.location(), table.io.properties)
    return PyArrowFileIO(table.io.properties).fs_by_scheme(scheme, netloc), path.rstrip("/")


def _path(location: str) -> str:
    return PyArrowFileIO.parse_location(location)[2]
