"""What every replica knows of the uploads that a table has not settled yet, from ingest.status alone."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from typing import Any

from k2common.domain.progress import Progress
from k2common.errors import RecordError
from k2common.kafka.boundary import UndecodableMessages, decode_boundary
from k2common.kafka.consumer import MessageReader
from k2common.kafka.follower import Follower
from k2common.observability.tracing import Carried, carried
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import MARKET_DATASETS, STATUS, Topic
from k2common.settings.kafka import KafkaSettings
from k2common.versions.version import Version

from iceberg_sink.uploads.named_offsets import NamedOffsets
from iceberg_sink.uploads.visibility import is_settled

REREAD_RECORDS = 500
REREAD_WAIT_SECONDS = 0.1
SETTLED_KEPT = 10_000
"""So many uploads are still known by their record batches: another table may lag behind theirs."""


class Statuses:
    """Uploads by dataset, from their first status until a version of the dataset's table settles them."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        starts: Mapping[int, int] | None,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._starts = starts or {}
        self.named = NamedOffsets()
        """The offsets of the market topics that a status names."""
        self._open: dict[str, dict[str, Progress]] = defaultdict(dict)
        self._settled: OrderedDict[str, Progress] = OrderedDict()
        self._firsts: dict[str, tuple[int, int]] = {}
        self._traces: dict[str, Carried] = {}
        self.follower = Follower(
            settings, STATUS, on_record=self._take, starts=starts, undecodable=undecodable
        )

    def open(self, dataset: str) -> Mapping[str, Progress]:
        """The uploads of `dataset` that are not settled."""
        return self._open[dataset]

    def complete(self, dataset: str) -> Mapping[str, Progress]:
        """Those of them whose every status is known: they change no more, so a thread may read them."""
        return {upload: progress for upload, progress in self._open[dataset].items() if progress.complete}

    def trace(self, upload_id: str) -> Carried:
        """The span that made the last status of an upload that is not settled; empty where none told."""
        return self._traces.get(upload_id, ())

    def upload_at(self, topic: str, *, epoch: int, partition: int, offset: int) -> str | None:
        """The upload whose record batches hold this position; None when no status that is kept says so."""
        known = (progress for uploads in self._open.values() for progress in uploads.values())
        for progress in (*known, *self._settled.values()):
            if progress.holds(topic, epoch=epoch, partition=partition, offset=offset):
                return progress.upload_id
        return None

    def settle(self, dataset: str, version: Version, *, topic: str) -> Set[str]:
        """Forget the uploads whose fate this version tells, and name them."""
        waiting = self._open[dataset]
        self.named.forget_passed(topic, version.offsets)
        settled = {u for u, p in waiting.items() if is_settled(p, version, topic=topic)}
        for upload_id in settled:
            self._settled[upload_id] = waiting.pop(upload_id)
            del self._firsts[upload_id]
            self._traces.pop(upload_id, None)
        while len(self._settled) > SETTLED_KEPT:
            self._settled.popitem(last=False)
        return settled

    def resume(self, dataset: str) -> Mapping[int, int]:
        """Where a new replica has to begin so that it misses nothing of the unsettled uploads."""
        starts = dict(self.follower.positions)
        for upload_id in self._open[dataset]:
            partition, offset = self._firsts[upload_id]
            starts[partition] = min(starts.get(partition, offset), offset)
        return starts

    async def _take(self, record: Any) -> None:
        # One that cannot be decoded is passed: its upload stays hidden, which is safe.
        self.add(
            await self._decoded(record),
            place=(record.partition, record.offset),
            trace=carried(record.headers),
        )

    async def _decoded(self, record: Any) -> Mapping[str, Any]:
        status = await self._codec.decode(record.value)
        if status["dataset"] not in MARKET_DATASETS:
            raise RecordError(f"there is no dataset {status['dataset']!r}")
        return status

    async def reread(self, dataset: str, head: Version | None, *, topic: str) -> None:
        """Read the statuses again from where the head says, if a name that its table needs was forgotten.

        That is so after main was rolled back. Raises TransientError when Kafka is unavailable.
        """
        resume = {} if head is None else head.resume.get(STATUS.name, {})
        offsets = {} if head is None else head.offsets
        began_late = any(resume.get(partition, 0) < start for partition, start in self._starts.items())
        if not began_late and not self.named.forgets(topic, offsets):
            return
        starts = {(STATUS.name, number): resume.get(number) for number in range(STATUS.partitions)}
        async with MessageReader(self._settings, starts, lost_is_beginning=True) as reader:
            ends = await reader.ends()
            while any(at < ends[place] for place, at in (await reader.positions()).items()):
                fetched = await reader.fetch(limit=REREAD_RECORDS, wait_seconds=REREAD_WAIT_SECONDS)
                for record in (record for records in fetched.values() for record in records):
                    with suppress(RecordError), decode_boundary(record):
                        await self._add_again(record)
        self.named.remember_from(topic)
        if began_late:
            self._starts = {number: resume.get(number, 0) for number in range(STATUS.partitions)}

    async def _add_again(self, record: Any) -> None:
        status = await self._decoded(record)
        place = (record.partition, record.offset)
        if (progress := self._settled.pop(status["upload_id"], None)) is not None:
            self._open[status["dataset"]][status["upload_id"]] = progress
            self._firsts[status["upload_id"]] = place
        self.add(status, place=place)

    def add(self, status: Mapping[str, Any], *, place: tuple[int, int], trace: Carried = ()) -> None:
        """Take one status that lies at `place`, a partition and an offset, and carries `trace`."""
        if trace:
            self._traces[status["upload_id"]] = trace
        self.named.add_status(status, stated_at=place)
        uploads = self._open[status["dataset"]]
        progress = uploads.get(status["upload_id"])
        if progress is None:
            uploads[status["upload_id"]] = Progress.of(status)
            self._firsts[status["upload_id"]] = place
        else:
            progress.add(status)


def earliest_resume(versions: Iterable[Version | None], topic: Topic) -> Mapping[int, int] | None:
    """Where to begin with a topic for all these tables; None is the beginning of the log."""
    starts: dict[int, int] = {}
    for version in versions:
        resume = None if version is None else version.resume.get(topic.name)
        if resume is None:
            return None
        for partition, offset in resume.items():
            starts[partition] = min(starts.get(partition, offset), offset)
    return starts
