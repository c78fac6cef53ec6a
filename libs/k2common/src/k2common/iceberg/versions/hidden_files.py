"""Files of hidden uploads, in the archive.

They are there for as long as versions are, which is for ever. In a table's folder other engines would take
them for orphans, since no snapshot names those of older versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from pyiceberg.catalog import Catalog
from pyiceberg.io import load_file_io
from pyiceberg.table import Table

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, HIDDEN_ROOT
from k2common.iceberg.files.digests import named_by_digest
from k2common.iceberg.files.lru import Recent
from k2common.iceberg.files.verification import faults, read_whole
from k2common.versions.hidden import AmendedHiddenUploads, Files, HiddenUpload, entries
from k2common.versions.version import Version

MOST_IN_DOCUMENT = 100
"""So many that are hidden for good cost a commit a fifth more; a thousand cost seven times as much."""
_kept = Recent[str, Mapping[str, HiddenUpload]](limit=32)


def hidden_files(catalog: Catalog) -> Files:
    """Reads the files of the catalogue's tables; those used last are kept.

    It raises TransientError when the store does not answer, DataDamaged or DataMissing for a file that is not
    what was written.
    """

    def read(location: str) -> Mapping[str, HiddenUpload]:
        found = _kept.get(location)
        if found is None:
            try:
                files = load_file_io(dict(catalog.properties), location)
                with faults(location.split("/")[-2], location):
                    found = entries(json.loads(read_whole(files, location, table=location.split("/")[-2])))
            except AWAY as error:
                raise TransientError(f"the hidden uploads in {location} cannot be read: {error}") from error
            _kept.put(location, found)
        return found

    return read


def store_hidden_uploads(version: Version, table: Table) -> Version:
    """The same version; its uploads that are hidden for good are in a new file where its document had many.

    Raises what the store raises.
    """
    hidden = version.hidden
    changes = hidden.changes if isinstance(hidden, AmendedHiddenUploads) else hidden
    if sum(entry is None or entry.is_final for entry in changes.values()) <= MOST_IN_DOCUMENT:
        return version
    final = {upload: entry for upload, entry in hidden.items() if entry.is_final}
    loading = {upload: entry for upload, entry in hidden.items() if not entry.is_final}
    if len(final) <= MOST_IN_DOCUMENT:
        return replace(version, hidden=final | loading)
    catalog = table.catalog
    text = json.dumps({u: entry.to_json() for u, entry in final.items()}, separators=(",", ":")).encode()
    name = named_by_digest(text, ".json")
    location = f"{catalog.properties[HIDDEN_ROOT]}/{'.'.join(table.name())}/{name}"
    with load_file_io(dict(catalog.properties), location).new_output(location).create() as stream:
        stream.write(text)
    _kept.put(location, final)
    return replace(version, hidden=AmendedHiddenUploads(location, loading, hidden_files(catalog)))
