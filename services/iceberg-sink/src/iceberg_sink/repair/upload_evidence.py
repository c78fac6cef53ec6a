"""What the topics still say of uploads: which offsets their rows lie at, and how their files are parsed.

Read from the beginning for a repair, and forgotten after it. Of ingest.status one row of five integers is
kept per record batch; of claims and chunks only what was asked for.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from k2common.errors import RecordError, SetupError, TransientError
from k2common.kafka.boundary import decode_boundary
from k2common.kafka.consumer import MessageReader
from k2common.kafka.positions import log_start
from k2common.layouts.upload import UploadSpec
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import CHUNKS, CLAIMS, REDRIVES, STATUS, Topic
from k2common.settings.kafka import KafkaSettings

READ_RECORDS = 500
READ_WAIT_SECONDS = 0.1
BATCH_FIELDS = 5
WITHDRAWN = frozenset({"failed", "cancelled", "retracted"})

Position: TypeAlias = tuple[int, int, int]
"""Epoch, partition, offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRows:
    """Where the rows of one upload lie in a topic.

    `batches` has a row per record batch: partition, index of the chunk, epoch, first offset, count; sorted,
    so that the rows of a partition stand in the order of their lines. `moved` says to which position a
    redrive has brought a dead letter, by its own first one.
    """

    batches: npt.NDArray[np.int64]
    moved: Mapping[Position, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownUploads:
    """The uploads that were asked for, and all that failed, were cancelled, retracted or replaced."""

    specs: Mapping[str, UploadSpec]
    withdrawn: Set[str]

    def is_purged(self, upload_id: str, hidden: Set[str]) -> bool:
        """Whether rows of the upload left the table for good, by what the table's head hides.

        Its key may have been claimed again since, which only a withdrawn upload allows.
        """
        gone = upload_id in self.withdrawn or upload_id not in self.specs
        return gone and upload_id not in hidden


class UploadEvidence:
    """Reads the topics under read_committed up to their ends at that moment."""

    def __init__(self, settings: KafkaSettings, *, claims: MessageCodec, chunks: MessageCodec) -> None:
        self._settings = settings
        self._claims = claims
        self._chunks = chunks

    async def named_rows(
        self, topic: str, statuses: MessageCodec, redrives: MessageCodec
    ) -> Mapping[str, NamedRows]:
        """Return where the rows of every upload lie in `topic`. Raises TransientError."""
        flat: dict[str, array[int]] = defaultdict(lambda: array("q"))
        async for status in self._messages(STATUS, statuses):
            for output in status["outputs"]:
                if output["topic"] == topic:
                    place = (output["partition"], status["index"], status["kafka_epoch"])
                    flat[status["upload_id"]].extend((*place, output["base_offset"], output["count"]))
        moved = await self._moved(topic, redrives)
        return {
            upload: NamedRows(batches=_sorted_batches(values), moved=moved.get(upload, {}))
            for upload, values in flat.items()
        }

    async def have_statuses_expired(self) -> bool:
        """Return whether Kafka has deleted statuses. Raises TransientError."""
        starts = [await log_start(self._settings, STATUS.name, n) for n in range(STATUS.partitions)]
        return any(starts)

    async def known_uploads(self, wanted: Set[str]) -> KnownUploads:
        """Return what the claims, or else the chunks, say of these uploads. Raises TransientError."""
        specs: dict[str, UploadSpec] = {}
        withdrawn: set[str] = set()
        async for claim in self._messages(CLAIMS, self._claims):
            upload = claim["upload"]
            if upload["upload_id"] in wanted:
                specs[upload["upload_id"]] = UploadSpec.from_avro(upload)
            if claim["outcome"] in WITHDRAWN:
                withdrawn.add(upload["upload_id"])
            if upload["replaces"] is not None and claim["outcome"] in ("committed", "retracted"):
                withdrawn.add(upload["replaces"])
        return KnownUploads(specs=specs, withdrawn=withdrawn)

    async def specs_of_chunks(self, wanted: Set[str]) -> Mapping[str, UploadSpec]:
        """Return what the chunks that Kafka still holds say of these uploads. Raises TransientError."""
        specs: dict[str, UploadSpec] = {}
        if wanted:
            async for chunk in self._messages(CHUNKS, self._chunks):
                if (upload_id := chunk["upload"]["upload_id"]) in wanted:
                    specs[upload_id] = UploadSpec.from_avro(chunk["upload"])
        return specs

    async def _moved(self, topic: str, redrives: MessageCodec) -> Mapping[str, Mapping[Position, Position]]:
        found: dict[str, dict[Position, Position]] = defaultdict(dict)
        origins: dict[Position, Position] = {}
        async for mark in self._messages(REDRIVES, redrives):
            for move in mark["moves"] if mark["topic"] == topic and mark["upload_id"] is not None else ():
                old = (move["epoch"], move["partition"], move["offset"])
                new = (move["new_epoch"], move["partition"], move["new_offset"])
                # One that became a dead letter again was moved from where it had been moved to.
                origins[new] = origins.get(old, old)
                found[mark["upload_id"]][origins[new]] = new
        return found

    async def _messages(self, topic: Topic, codec: MessageCodec) -> AsyncIterator[Mapping[str, Any]]:
        starts = {(topic.name, number): None for number in range(topic.partitions)}
        try:
            async with MessageReader(self._settings, starts, lost_is_beginning=True) as reader:
                ends = await reader.ends()
                while any(at < ends[place] for place, at in (await reader.positions()).items()):
                    fetched = await reader.fetch(limit=READ_RECORDS, wait_seconds=READ_WAIT_SECONDS)
                    for record in (record for records in fetched.values() for record in records):
                        # What cannot be decoded is counted and kept by who follows the topic.
                        message = None
                        with suppress(RecordError), decode_boundary(record):
                            message = await codec.decode(record.value)
                        if message is not None:
                            yield message
        except SetupError as error:
            # Retention has passed the position since it was asked for.
            raise TransientError(f"{topic.name} cannot be read: {error}") from error


def add_receipts(
    named: Mapping[str, NamedRows], receipts: Iterable[Mapping[str, Any]], topic: str, *, count: str
) -> Mapping[str, NamedRows]:
    """Return the rows that are named, with those of uploads whose statuses have expired.

    A final receipt says of each partition only the first offset and the end. That is enough where nothing
    else lies between them, which is proved when the rows are rebuilt: their number has to be the same.
    `count` is the receipt's name for the rows that went to `topic`.
    """
    found = dict(named)
    for receipt in receipts:
        upload_id, spans = receipt["upload_id"], [s for s in receipt["offsets"] if s["topic"] == topic]
        known = found.get(upload_id)
        if spans and (known is None or int(known.batches[:, 4].sum()) < receipt["rows"][count]):
            rows = [(s["partition"], 0, s["epoch"], s["first"], s["end"] - s["first"]) for s in spans]
            moved = {} if known is None else known.moved
            found[upload_id] = NamedRows(batches=np.array(rows, np.int64), moved=moved)
    return found


def _sorted_batches(values: array[int]) -> npt.NDArray[np.int64]:
    return np.unique(np.frombuffer(values, np.int64).reshape(-1, BATCH_FIELDS), axis=0)
