"""Which uploads a version hides: pure, and applied again whenever the head has moved.

An upload with rows in the table is hidden as loading until the status of its every chunk is known and all of
its rows are in the table. Only `loading` is ever taken back. One that replaces another becomes visible in the
commit that hides the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from k2common.domain.progress import Progress
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version

REASONS = {"failed": Reason.FAILED, "cancelled": Reason.CANCELLED}
Ranges = tuple[OffsetRange, ...]
ARRIVAL_COLUMNS = ["upload_id", "kafka_epoch", "kafka_partition", "kafka_offset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commanded:
    """What users want taken back: uploads to retract, with the places of their rows as far as they are known,
    and uploads to cancel.
    """

    retracted: Mapping[str, Ranges] = field(default_factory=dict)
    cancelled: Set[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.retracted or self.cancelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicProgress:
    """The topic of a table, and how far the table has come in it."""

    topic: str
    epoch: int
    offsets: Mapping[int, int]
    ended: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


def hidden_after(
    hidden: Mapping[str, HiddenUpload],
    arrived: Mapping[str, Ranges],
    progress: Mapping[str, Progress],
    commanded: Commanded,
    *,
    place: TopicProgress,
    redriven: Mapping[str, Ranges] = MappingProxyType({}),
) -> Mapping[str, HiddenUpload]:
    """What the version at `place` hides, after a head that hid `hidden`, with the rows that arrived.

    Rows that were `redriven` hide nothing; they are hidden where their upload is. A cancelled upload that is
    visible already stays so. An upload whose replaced one is no longer visible fails: the rows of both or of
    neither would be seen.
    """
    late = {upload: ranges for upload, ranges in redriven.items() if upload in hidden}
    arrived = {u: (*arrived.get(u, ()), *late.get(u, ())) for u in arrived.keys() | late.keys()}
    after = {upload: entry for upload, entry in hidden.items() if entry.reason is not Reason.LOADING}
    waiting = {upload: entry.ranges for upload, entry in hidden.items() if entry.reason is Reason.LOADING}
    held = waiting.keys() | arrived.keys()
    rowless = {u for u, p in progress.items() if u not in held and _replaces_without_rows(p, place.topic)}
    for upload in sorted(held | rowless):
        ranges = merged((*waiting.get(upload, ()), *arrived.get(upload, ())))
        if upload in after:
            known = after[upload]
            # No ranges: nobody knows where its rows lie.
            merged_ranges = merged((*known.ranges, *ranges)) if known.ranges else ()
            after[upload] = HiddenUpload(reason=known.reason, ranges=merged_ranges, by=known.by)
            continue
        known_progress = progress.get(upload)
        reason = _reason(known_progress, place) or _taken_back(upload, commanded)
        replaced = known_progress.replaces if known_progress is not None and reason is None else None
        if replaced is not None:
            if replaced not in after and replaced not in held:
                after[replaced] = HiddenUpload(reason=Reason.REPLACED, by=upload)
            elif replaced not in after or after[replaced].by != upload:
                reason = Reason.FAILED
        if reason is not None:
            after[upload] = HiddenUpload(reason=reason, ranges=ranges)
    for upload, ranges in sorted(commanded.retracted.items()):
        everywhere = merged((*ranges, *redriven.get(upload, ()))) if ranges else ()
        after.setdefault(upload, HiddenUpload(reason=Reason.RETRACTED, ranges=everywhere))
    return after


def is_due(version: Version, progress: Mapping[str, Progress], commanded: Commanded, *, topic: str) -> bool:
    """Whether a version without new rows would hide other uploads than this one."""
    place = TopicProgress(topic=topic, epoch=version.epoch, offsets=version.offsets, ended=version.ended)
    return hidden_after(version.hidden, {}, progress, commanded, place=place) != version.hidden


def is_settled(progress: Progress, version: Version, *, topic: str) -> bool:
    """Whether the version tells what became of the upload, so that later ones need not decide on it."""
    if not progress.complete:
        return False
    entry = version.hidden.get(progress.upload_id)
    if _replaces_without_rows(progress, topic):
        replaced = version.hidden.get(progress.replaces or "")
        return entry is not None or (replaced is not None and replaced.by == progress.upload_id)
    if not progress.has_rows_in(topic):
        return True
    if entry is not None and entry.reason is Reason.LOADING:
        return False
    covered = progress.covered(topic, epoch=version.epoch, offsets=version.offsets, ended=version.ended)
    return covered or progress.lost(topic, ended=version.ended)


def arrivals(rows: pa.Table) -> Mapping[str, Ranges]:
    """Where the rows of each upload lie; of their columns, ARRIVAL_COLUMNS are needed."""
    found = rows.group_by(ARRIVAL_COLUMNS[:-1]).aggregate([("kafka_offset", "min"), ("kafka_offset", "max")])
    result: dict[str, list[OffsetRange]] = {}
    for row in found.to_pylist():
        place: dict[str, Any] = {"epoch": row["kafka_epoch"], "partition": row["kafka_partition"]}
        held = OffsetRange(**place, first=row["kafka_offset_min"], end=row["kafka_offset_max"] + 1)
        result.setdefault(row["upload_id"], []).append(held)
    return {upload: merged(ranges) for upload, ranges in result.items()}


def merged(ranges: Iterable[OffsetRange]) -> Ranges:
    """One range per epoch and partition, from the first to the last."""
    spans: dict[tuple[int, int], OffsetRange] = {}
    for held in ranges:
        key = (held.epoch, held.partition)
        known = spans.get(key, held)
        spans[key] = OffsetRange(
            epoch=held.epoch,
            partition=held.partition,
            first=min(known.first, held.first),
            end=max(known.end, held.end),
        )
    return tuple(sorted(spans.values()))


def _reason(progress: Progress | None, place: TopicProgress) -> Reason | None:
    if progress is None or not progress.complete:
        return Reason.LOADING
    if progress.lost(place.topic, ended=place.ended):
        return Reason.FAILED
    if not progress.covered(place.topic, epoch=place.epoch, offsets=place.offsets, ended=place.ended):
        return Reason.LOADING
    return REASONS.get(progress.outcome)


def _taken_back(upload: str, commanded: Commanded) -> Reason | None:
    if upload in commanded.cancelled:
        return Reason.CANCELLED
    return Reason.RETRACTED if upload in commanded.retracted else None


def _replaces_without_rows(progress: Progress, topic: str) -> bool:
    committed = progress.complete and progress.outcome == "committed"
    return committed and progress.replaces is not None and not progress.has_rows_in(topic)
