"""What the table holds after the storm, beside what was put into Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.maintenance.orphan_files import referenced
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import shown
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.versions.hidden import Reason
from k2common.versions.version import Version

from tests.chaos.sink.publisher import Publisher, Upload

COLUMNS = ("kafka_epoch", "kafka_partition", "kafka_offset", "upload_id", "line")


class TableState:
    """One look at the table."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.table = load_table(catalog, TRADES.table)
        self.head = head_version(self.table)

    def is_done(self, publisher: Publisher) -> bool:
        """Whether all rows are there and every upload is what it is to become."""
        head = self.head
        if head is None or any(head.offsets.get(p, 0) < end for p, end in publisher.ends.items()):
            return False
        reasons = {upload: entry.reason for upload, entry in head.hidden.items()}
        retracted = {u.upload_id for u in publisher.uploads if u.retracted}
        return Reason.LOADING not in reasons.values() and retracted <= reasons.keys()

    def rows(self) -> pa.Table:
        """All rows of the head, hidden or not."""
        return self.table.scan(selected_fields=COLUMNS).to_arrow()

    def versions(self) -> list[Version]:
        """All versions that were ever recorded or are live, oldest first."""
        found = VersionReader(self._catalog).history(TRADES.table, before=None, limit=1_000_000)
        return [entry.version for entry in reversed(found)]

    def unnamed(self, *, older_than: datetime) -> list[Path]:
        """Files under the table that nothing names and that are older than this."""
        named = {Path(urlsplit(location).path) for location in referenced(self.table)}
        root = Path(urlsplit(self.table.location()).path)
        files = [path for path in root.rglob("*") if path.is_file() and path not in named]
        return [p for p in files if datetime.fromtimestamp(p.stat().st_mtime, UTC) < older_than]

    def missing(self) -> list[str]:
        """Files that the table names and that are not there."""
        return [at for at in referenced(self.table) if not Path(urlsplit(at).path).exists()]


def counted(rows: pa.Table, publisher: Publisher) -> tuple[int, int]:
    """Rows lost and rows doubled; a row at another's place, too, is lost."""
    names = ("kafka_partition", "kafka_offset", "upload_id", "line")
    values = [rows[name].to_pylist() for name in names]
    found = Counter(((p, o), (upload, line)) for p, o, upload, line in zip(*values, strict=True))
    lost = sum(1 for record in publisher.records.items() if record not in found)
    return lost, sum(found.values()) - len(found)


def partly_shown(rows: pa.Table, versions: list[Version], uploads: list[Upload]) -> list[str]:
    """Uploads of which a version shows a part, or anything although they failed, or both of a pair."""
    codes = rows["upload_id"].combine_chunks().dictionary_encode()
    names = codes.dictionary.to_pylist()
    numbers = codes.indices.to_numpy()
    total = dict(zip(names, np.bincount(numbers, minlength=len(names)).tolist(), strict=True))
    known = {upload.upload_id: upload for upload in uploads}
    broken: list[str] = []
    for version in versions:
        mask = shown(rows, version).combine_chunks().to_numpy(zero_copy_only=False)
        counts = np.bincount(numbers[mask], minlength=len(names)).tolist()
        seen = dict(zip(names, counts, strict=True))
        broken += [f"{version.number}: {found}" for found in _wrong(seen, total, known)]
    return broken


def _wrong(seen: Mapping[str, int], total: Mapping[str, int], known: Mapping[str, Upload]) -> list[str]:
    wrong = [f"{u} shows {n} of {total[u]}" for u, n in seen.items() if n not in (0, total[u])]
    wrong += [f"{u}, which failed, is shown" for u, n in seen.items() if n and known[u].failure]
    for upload, n in seen.items():
        old = known[upload].replaces
        if old is not None and n and seen.get(old):
            wrong.append(f"{upload} and {old}, which it replaces, are both shown")
    return wrong
