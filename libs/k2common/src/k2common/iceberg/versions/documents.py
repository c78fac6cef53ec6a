"""Where a table keeps its version documents: in its snapshots' summaries, the newest under a tag as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2common.iceberg.versions.hidden_files import hidden_files
from k2common.versions.hidden import Files, unread
from k2common.versions.version import Version

VERSION_KEY = "k2.version"
COMMIT_ID_KEY = "k2.commit-id"
STATE_TAG = "k2-state"
CLUSTER_KEY = "k2.kafka-cluster"
TOPICS_KEY = "k2.kafka-topics"
ORIGIN_KEYS = (CLUSTER_KEY, TOPICS_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedSnapshot:
    """A live snapshot and the version that it carries."""

    snapshot_id: int
    version: Version


def head_version(table: Table) -> Version | None:
    """The version of the table as loaded, or None when nothing was ever committed by the sink.

    It is the newest in main's ancestry. Only where expiry has cut that chain before any version, it is the
    tagged one.
    """
    return head_of(table.metadata, hidden_files(table.catalog))


def head_of(metadata: TableMetadata, files: Files = unread) -> Version | None:
    """The same for a table's metadata; `files` are for what the version hides, here and below."""
    oldest: Snapshot | None = None
    for snapshot in ancestry(metadata):
        version = version_of(snapshot, files)
        if version is not None:
            return version
        oldest = snapshot
    return tagged_version(metadata, files) if oldest is not None and _is_cut(oldest) else None


def is_lost(metadata: TableMetadata) -> bool:
    """Whether main was rolled back to before the tag while its own versions have been expired.

    The tag's offsets are beyond main's rows then, and nothing else is known.
    """
    tagged = metadata.snapshot_by_name(STATE_TAG)
    chain = list(ancestry(metadata))
    if tagged is None or not chain or any(version_of(snapshot) is not None for snapshot in chain):
        return False
    return _is_cut(chain[-1]) and (tagged.sequence_number or 0) > (chain[-1].sequence_number or 0)


def tagged_version(metadata: TableMetadata, files: Files = unread) -> Version | None:
    """The version under the tag: the last that the sink committed, whatever became of main since."""
    snapshot = metadata.snapshot_by_name(STATE_TAG)
    return None if snapshot is None else version_of(snapshot, files)


def live_versions(metadata: TableMetadata, files: Files = unread) -> list[VersionedSnapshot]:
    """All versions in main's ancestry, newest first; a version that several snapshots carry is there once."""
    found: dict[int, VersionedSnapshot] = {}
    for snapshot in ancestry(metadata):
        version = version_of(snapshot, files)
        if version is not None:
            found[version.number] = VersionedSnapshot(snapshot_id=snapshot.snapshot_id, version=version)
    return list(found.values())


def version_upon(metadata: TableMetadata, snapshot_id: int, files: Files = unread) -> Version | None:
    """The version of this snapshot or of its nearest ancestor that carries one; None for one not live."""
    carried = (version_of(snapshot, files) for snapshot in ancestry(metadata, since=snapshot_id))
    return next((version for version in carried if version is not None), None)


def ancestry(metadata: TableMetadata, *, since: int | None = None) -> Iterator[Snapshot]:
    """Snapshots from `since` on, main's newest without it, newest first, as far as they are live."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    snapshot_id = metadata.current_snapshot_id if since is None else since
    while snapshot_id is not None and (snapshot := by_id.get(snapshot_id)) is not None:
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def version_of(snapshot: Snapshot, files: Files = unread) -> Version | None:
    """The version that the snapshot carries; another engine's carries none."""
    text = entry(snapshot, VERSION_KEY)
    return None if text is None else Version.from_json(text, files)


def origin_of(metadata: TableMetadata) -> Mapping[str, str]:
    """The entries about the Kafka cluster that the newest snapshot with such entries carries."""
    tagged = metadata.snapshot_by_name(STATE_TAG)
    for snapshot in (*ancestry(metadata), *([] if tagged is None else [tagged])):
        found = {key: text for key in ORIGIN_KEYS if (text := entry(snapshot, key)) is not None}
        if found:
            return found
    return {}


def entry(snapshot: Snapshot, key: str) -> str | None:
    """One entry of the snapshot's summary."""
    return None if snapshot.summary is None else snapshot.summary.additional_properties.get(key)


def _is_cut(oldest: Snapshot) -> bool:
    # Some libraries leave the expired parent's id, pyiceberg removes it; the first snapshot has number 1.
    return oldest.parent_snapshot_id is not None or (oldest.sequence_number or 0) > 1
