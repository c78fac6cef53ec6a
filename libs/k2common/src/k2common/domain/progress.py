"""How far an upload is, from the statuses of its chunks; gateway and sink judge by the same rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

LOST_IN_MIGRATION = "LOST_IN_MIGRATION"
"""The failure of an upload whose rows were in a topic that was re-created before they were committed."""
CHUNKS_EXPIRED = "CHUNKS_EXPIRED"
"""The failure of an upload of which chunks were deleted before they were parsed; no more will come of it."""

Outcome = Literal["committed", "failed", "cancelled"]
Position = tuple[int, int]
"""Epoch and offset."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """The sum of an upload's statuses, each taken once however often it comes.

    `firsts` and `ends` are, per topic and partition, the positions of the first of the upload's records and
    after the last; `batches` are its record batches there, as epoch, first offset and count.
    """

    upload_id: str
    dataset: str
    on_error: str = "skip_row"
    max_reject_ratio: float | None = None
    replaces: str | None = None
    rows_read: int = 0
    rows_accepted: int = 0
    rows_rejected: int = 0
    rows_filtered: int = 0
    errors: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    firsts: dict[tuple[str, int], Position] = field(default_factory=dict)
    ends: dict[tuple[str, int], Position] = field(default_factory=dict)
    batches: dict[tuple[str, int], list[tuple[int, int, int]]] = field(default_factory=dict)
    failure: str | None = None
    failure_reason: str | None = None
    cancelled: bool = False
    chunks: int | None = None
    parsed_at: datetime | None = None
    seen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Progress:
        """An upload of which this is the first status."""
        progress = cls(
            upload_id=status["upload_id"],
            dataset=status["dataset"],
            on_error=status["on_error"],
            max_reject_ratio=status["max_reject_ratio"],
            replaces=status["replaces"],
        )
        progress.add(status)
        return progress

    def add(self, status: Mapping[str, Any]) -> None:
        """Take one status; one that was taken before changes nothing."""
        self.parsed_at = max(self.parsed_at or status["processed_at"], status["processed_at"])
        if status["terminal"]:
            self.chunks, self.cancelled = status["index"], status["cancelled"]
            self._fail(status)
            return
        if status["index"] in self.seen:
            return
        self.seen.add(status["index"])
        self.rows_read += status["rows_read"]
        self.rows_accepted += status["rows_accepted"]
        self.rows_rejected += status["rows_rejected"]
        self.rows_filtered += status["rows_filtered"]
        self._fail(status)
        for error in status["errors"]:
            self.errors[(error["column"], error["code"])] += error["count"]
        for output in status["outputs"]:
            place = (output["topic"], output["partition"])
            end = (status["kafka_epoch"], output["base_offset"] + output["count"])
            first = (status["kafka_epoch"], output["base_offset"])
            self.firsts[place] = min(first, self.firsts.get(place, first))
            self.ends[place] = max(end, self.ends.get(place, end))
            self.batches.setdefault(place, []).append((*first, output["count"]))

    def _fail(self, status: Mapping[str, Any]) -> None:
        if self.failure is None:
            self.failure, self.failure_reason = status["failure"], status.get("failure_reason")

    @property
    def complete(self) -> bool:
        """Whether the status of every chunk that there will be is known."""
        if self.failure == CHUNKS_EXPIRED:
            return True
        return self.chunks is not None and len(self.seen) == self.chunks

    @property
    def outcome(self) -> Outcome:
        """What becomes of the upload once it is complete and its rows are in the tables."""
        if self.failure is not None:
            return "failed"
        if self.cancelled:
            return "cancelled"
        if self.rows_rejected and self.on_error == "abort":
            return "failed"
        ratio = self.max_reject_ratio
        if ratio is not None and self.rows_rejected > ratio * self.rows_read:
            return "failed"
        return "committed"

    def covered(
        self, topic: str, *, epoch: int, offsets: Mapping[int, int], ended: Mapping[int, Mapping[int, int]]
    ) -> bool:
        """Whether a table at these offsets has all that the upload put into `topic`.

        `ended` has the table's last offsets in the epochs whose log is no more; others went on as it was.
        """
        return all(
            of <= epoch and end <= ended.get(of, offsets).get(partition, 0)
            for (name, partition), (of, end) in self.ends.items()
            if name == topic
        )

    def lost(self, topic: str, *, ended: Mapping[int, Mapping[int, int]]) -> bool:
        """Whether the table can never have all of it, since a log ended before it was read."""
        return any(
            of in ended and end > ended[of].get(partition, 0)
            for (name, partition), (of, end) in self.ends.items()
            if name == topic
        )

    def holds(self, topic: str, *, epoch: int, partition: int, offset: int) -> bool:
        """Whether the record at this position is one of the upload's."""
        batches = self.batches.get((topic, partition), ())
        return any(of == epoch and first <= offset < first + count for of, first, count in batches)

    def has_rows_in(self, topic: str) -> bool:
        """Whether the upload put anything into `topic`."""
        return any(name == topic for name, _ in self.ends)
