"""What users want taken back, from ingest.commands alone; every replica knows the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from k2common.errors import RecordError
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import CHUNKS, COMMANDS, MARKET_DATASETS
from k2common.settings.kafka import KafkaSettings
from k2common.versions.hidden import OffsetRange, Reason
from k2common.versions.version import Version

from iceberg_sink.uploads.visibility import Commanded, Ranges

CANCEL_LASTS = timedelta(milliseconds=CHUNKS.retention_ms or 0)
"""After so long the upload's chunks are gone, so none of its rows can come any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command that a table has not obeyed yet, and where it lies in the topic."""

    kind: Literal["retract", "cancel"]
    ranges: Ranges
    issued_at: datetime
    place: tuple[int, int]


class Commands:
    """Retractions and cancellations by dataset, until a version of the dataset's table settles them."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        starts: Mapping[int, int] | None,
        clock: Clock,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._open: dict[str, dict[str, Command]] = defaultdict(dict)
        self.follower = Follower(
            settings, COMMANDS, on_record=self._take, starts=starts, undecodable=undecodable
        )

    def pending(self, dataset: str) -> Commanded:
        """What is to be taken back from the dataset's table; a copy, so a thread may read it."""
        waiting = self._open[dataset]
        return Commanded(
            retracted={u: c.ranges for u, c in waiting.items() if c.kind == "retract"},
            cancelled=frozenset(u for u, c in waiting.items() if c.kind == "cancel"),
        )

    def settle(self, dataset: str, version: Version, *, settled: Set[str]) -> None:
        """Forget the commands that this version obeys, and cancellations of uploads that are `settled`."""
        waiting = self._open[dataset]
        now = self._clock.now()
        for upload, command in list(waiting.items()):
            entry = version.hidden.get(upload)
            obeyed = entry is not None and entry.reason is not Reason.LOADING
            late = command.kind == "cancel" and now - command.issued_at > CANCEL_LASTS
            if obeyed or late or (command.kind == "cancel" and upload in settled):
                del waiting[upload]

    def resume(self, dataset: str) -> Mapping[int, int]:
        """Where a new replica has to begin so that it misses no command that is not obeyed."""
        starts = dict(self.follower.positions)
        for command in self._open[dataset].values():
            partition, offset = command.place
            starts[partition] = min(starts.get(partition, offset), offset)
        return starts

    async def _take(self, record: Any) -> None:
        self.add(await self._codec.decode(record.value), place=(record.partition, record.offset))

    def add(self, command: Mapping[str, Any], *, place: tuple[int, int]) -> None:
        """Take one command that lies at `place`; a later one for the same upload counts.

        Raises RecordError for one that is no retraction or cancellation.
        """
        kind, arguments = command["kind"], command["arguments"]
        if kind not in ("retract", "cancel") or arguments.get("dataset") not in MARKET_DATASETS:
            raise RecordError(f"no command that the sink knows: {kind!r} {dict(arguments)}")
        self._open[arguments["dataset"]][command["upload_id"]] = Command(
            kind=kind,
            ranges=_ranges(arguments.get("ranges", "[]")),
            issued_at=command["issued_at"],
            place=place,
        )


def _ranges(text: str) -> Ranges:
    try:
        return tuple(
            OffsetRange(epoch=epoch, partition=partition, first=first, end=end)
            for epoch, partition, first, end in json.loads(text)
        )
    except (ValueError, TypeError) as error:
        raise RecordError(f"no ranges of offsets: {text[:200]!r}") from error
