"""Which uploads a version hides: pure, and applied again whenever the head has moved.

An upload with rows in the table is hidden as loading until the status of its every chunk is known and all of
its rows are in the table. Only `loading` is ever taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from k2common.domain.progress import Progress
from k2common.versions import Hidden, OffsetRange, Reason, Version

REASONS = {"failed": Reason.FAILED, "cancelled": Reason.CANCELLED}
Ranges = tuple[OffsetRange, ...]


def hidden_after(
    hidden: Mapping[str, Hidden],
    arrived: Mapping[str, Ranges],
    progress: Mapping[str, Progress],
    *,
    topic: str,
    epoch: int,
    offsets: Mapping[int, int],
) -> Mapping[str, Hidden]:
    """What the version at `offsets` hides, after a head that hid `hidden`, with the rows that arrived."""
    after = {upload: entry for upload, entry in hidden.items() if entry.reason is not Reason.LOADING}
    waiting = {upload: entry.ranges for upload, entry in hidden.items() if entry.reason is Reason.LOADING}
    for upload in sorted(waiting.keys() | arrived.keys()):
        ranges = merged((*waiting.get(upload, ()), *arrived.get(upload, ())))
        if upload in after:
            after[upload] = Hidden(
                reason=after[upload].reason, ranges=merged((*after[upload].ranges, *ranges))
            )
            continue
        reason = _reason(progress.get(upload), topic=topic, epoch=epoch, offsets=offsets)
        if reason is not None:
            after[upload] = Hidden(reason=reason, ranges=ranges)
    return after


def is_due(version: Version, progress: Mapping[str, Progress], *, topic: str) -> bool:
    """Whether a version without new rows would show or fail an upload that this one hides as loading."""
    return any(
        entry.reason is Reason.LOADING
        and _reason(progress.get(upload), topic=topic, epoch=version.epoch, offsets=version.offsets)
        is not Reason.LOADING
        for upload, entry in version.hidden.items()
    )


def is_settled(progress: Progress, version: Version, *, topic: str) -> bool:
    """Whether the version tells what became of the upload, so that later ones need not decide on it."""
    if not progress.complete:
        return False
    if not progress.has_rows_in(topic):
        return True
    entry = version.hidden.get(progress.upload_id)
    loading = entry is not None and entry.reason is Reason.LOADING
    return progress.covered(topic, epoch=version.epoch, offsets=version.offsets) and not loading


def arrivals(rows: pa.Table) -> Mapping[str, Ranges]:
    """Where the rows of each upload lie."""
    names = ["upload_id", "kafka_epoch", "kafka_partition"]
    found = (
        rows.select([*names, "kafka_offset"])
        .group_by(names)
        .aggregate([("kafka_offset", "min"), ("kafka_offset", "max")])
    )
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


def _reason(
    progress: Progress | None, *, topic: str, epoch: int, offsets: Mapping[int, int]
) -> Reason | None:
    if progress is None or not progress.complete:
        return Reason.LOADING
    if not progress.covered(topic, epoch=epoch, offsets=offsets):
        return Reason.LOADING
    return REASONS.get(progress.outcome)
