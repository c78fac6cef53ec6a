"""What there is: versions and snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.domain.time import format_datetime
from k2common.iceberg.versions.documents import VersionedSnapshot
from k2common.versions.version import format_token


def version_entry(found: VersionedSnapshot) -> Mapping[str, Any]:
    """A version as the list shows it."""
    version = found.version
    return {
        "version": format_token({version.table: version.number}),
        "table": version.table,
        "number": version.number,
        "committed_at": format_datetime(version.committed_at),
        "snapshot_id": str(found.snapshot_id),
        "offsets": {
            "epoch": version.epoch,
            **{str(partition): offset for partition, offset in sorted(version.offsets.items())},
        },
        "hidden": {upload: str(entry.reason) for upload, entry in sorted(version.hidden.items())},
    }
