"""Dead letters are put back into their topic, each once: messages and their mark are one transaction.

Whoever redrives starts a transactional producer of one id, which fences all others, and only then reads the
marks. Letters of an upload that is loading or was taken back stay where they are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import pyarrow as pa
from k2common.domain.dead_letters import DeadLetter, Position, redriven_header
from k2common.errors import RecordError
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.reading.predicates import Condition, among, both, equal, everything
from k2common.iceberg.reading.rows import scan_rows
from k2common.iceberg.versions.documents import head_version
from k2common.kafka.boundary import decode_boundary
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import DEAD_LETTERS, MARKET_DATASETS, REDRIVABLE, REDRIVES
from k2common.settings.kafka import KafkaSettings
from k2common.versions.hidden import Reason
from k2common.versions.version import Version

from iceberg_sink.dead_letters.rows import KEY
from iceberg_sink.uploads.commands import Commands
from iceberg_sink.uploads.named_offsets import MARKET_TOPICS
from iceberg_sink.uploads.settled_uploads import Settling
from iceberg_sink.uploads.statuses import Statuses

TRANSACTIONAL_ID = "iceberg-sink-redrive"
IN_ONE_TRANSACTION = 500
OF_TABLE = {dataset.table: dataset for dataset in MARKET_DATASETS.values()}


class Fate(StrEnum):
    """What a redrive does with a letter."""

    REDRIVEN = "redriven"
    LOADING = "upload_is_loading"
    TAKEN_BACK = "upload_is_taken_back"
    EARLIER_EPOCH = "earlier_epoch"
    CONTROL_TOPIC = "control_topic"
    STRAY = "no_upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters: those of an upload, at some partitions and offsets of a topic, of a reason; all that is
    given has to be so.
    """

    upload_id: str | None = None
    topic: str | None = None
    offsets: Sequence[tuple[int, int]] = ()
    reason: str | None = None

    def condition(self) -> Condition:
        """The letters as the table's planner takes them."""
        found = everything()
        given = {"upload_id": self.upload_id, "topic": self.topic, "reason": self.reason}
        for column, value in given.items():
            if value is not None:
                found = both(found, equal(column, value))
        if self.offsets:
            found = both(found, among("topic_offset", {offset for _, offset in self.offsets}))
        return found

    def has(self, position: Position) -> bool:
        """Whether partition and offset are among the chosen ones."""
        return not self.offsets or position[2:] in self.offsets


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStates:
    """What is known of uploads when their letters are asked for."""

    epoch: int
    open: frozenset[str]
    taken_back: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What became of the chosen letters, by position; those put back earlier are no longer among
    them, and there may be `more`.
    """

    fates: Sequence[tuple[DeadLetter, Fate]]
    more: bool

    @property
    def counts(self) -> Mapping[Fate, int]:
        """How many letters had each fate."""
        return Counter(what for _, what in self.fates)


def fate(letter: DeadLetter, known: UploadStates) -> Fate:
    """What a redrive does with the letter."""
    if letter.topic not in REDRIVABLE:
        # Services take these messages by their order; one that comes late is none of it.
        return Fate.CONTROL_TOPIC
    if letter.topic in MARKET_TOPICS and letter.upload_id is None:
        return Fate.STRAY
    if letter.epoch < known.epoch:
        # Its mark may have gone with the topics of that epoch.
        return Fate.EARLIER_EPOCH
    if letter.upload_id in known.taken_back:
        return Fate.TAKEN_BACK
    return Fate.LOADING if letter.upload_id in known.open else Fate.REDRIVEN


class Redriver:
    """Puts letters back; one redrive at a time in a process, and one fences all others."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        catalog: Catalog,
        statuses: Statuses,
        commands: Commands,
        settling: Settling,
        blocking: Blocking,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._catalog = catalog
        self._statuses = statuses
        self._commands = commands
        self._settling = settling
        self._blocking = blocking
        self._clock = clock
        self._alone = asyncio.Lock()

    async def letters(
        self,
        selection: Selection,
        *,
        limit: int,
        after: Position | None = None,
        without: Set[Position] = frozenset(),
    ) -> Sequence[DeadLetter]:
        """Up to `limit` chosen letters of the table, after the one at `after`, by position.

        Raises TransientError when the catalogue or the warehouse is unavailable.
        """
        return await self._blocking.run(self._read, selection, limit, after, without)

    async def marked(self) -> frozenset[Position]:
        """The letters that were put back.

        Raises TransientError when Kafka is unavailable.
        """
        marks = []
        for record in await all_records(self._settings, REDRIVES.name, 0):
            # What cannot be decoded is counted and kept by who follows the topic.
            with suppress(RecordError), decode_boundary(record):
                marks.append(await self._codec.decode(record.value))
        return frozenset(
            (mark["topic"], move["epoch"], move["partition"], move["offset"])
            for mark in marks
            for move in mark["moves"]
        )

    async def redrive(self, selection: Selection, *, limit: int, dry_run: bool) -> Redriven:
        """Put back those of the first `limit` chosen letters that may be; a dry run only says which.

        A committed read has shown messages and marks on return.

        Raises TransientError when a dependency is unavailable, Fenced when another redrive began: what was
        redriven by then has its mark, so asking again goes on.
        """
        async with self._alone:
            if dry_run:
                return await self._decided(selection, limit)
            async with TransactionalProducer(self._settings, TRANSACTIONAL_ID) as producer:
                # Not before the producer has fenced all others: their marks would be missed.
                result = await self._decided(selection, limit)
                chosen = [letter for letter, what in result.fates if what is Fate.REDRIVEN]
                for _, group in groupby(sorted(chosen, key=_unit), _unit):
                    of_one = list(group)
                    for first in range(0, len(of_one), IN_ONE_TRANSACTION):
                        await self._put_back(producer, of_one[first : first + IN_ONE_TRANSACTION])
            return result

    async def _decided(self, selection: Selection, limit: int) -> Redriven:
        marked, known = await self.marked(), await self._known()
        letters = await self.letters(selection, limit=limit + 1, without=marked)
        fates = [(letter, fate(letter, known)) for letter in letters[:limit]]
        return Redriven(fates=fates, more=len(letters) > limit)

    async def _known(self) -> UploadStates:
        # Which uploads are loading is only known to whom has read all statuses that there are now.
        await self._statuses.follower.reach_ends()
        await self._commands.follower.reach_ends()
        heads = await self._blocking.run(self._heads)
        for head in heads:
            self._settling.by(OF_TABLE[head.table], head)
        hidden = [(upload, entry.reason) for head in heads for upload, entry in head.hidden.items()]
        commanded = [self._commands.pending(name) for name in MARKET_DATASETS]
        unsettled = {u for name in MARKET_DATASETS for u in self._statuses.open(name)}
        return UploadStates(
            epoch=self._settings.epoch,
            open=frozenset(unsettled | {u for u, reason in hidden if reason is Reason.LOADING}),
            taken_back=frozenset(
                {u for u, reason in hidden if reason is not Reason.LOADING}
                | {u for orders in commanded for u in (*orders.retracted, *orders.cancelled)}
            ),
        )

    async def _put_back(self, producer: TransactionalProducer, letters: Sequence[DeadLetter]) -> None:
        seconds = self._settings.request_timeout_seconds
        async with producer.transaction(read_back_seconds=seconds) as work:
            sent = [
                await work.send(
                    letter.topic,
                    key=letter.key,
                    value=letter.value,
                    partition=letter.partition,
                    headers=[redriven_header(letter.position)],
                )
                for letter in letters
            ]
            await work.flush()
            moves = [
                {
                    "epoch": letter.epoch,
                    "partition": letter.partition,
                    "offset": letter.offset,
                    "new_epoch": self._settings.epoch,
                    "new_offset": (await one).offset,
                }
                for letter, one in zip(letters, sent, strict=True)
            ]
            mark = {
                "topic": letters[0].topic,
                "upload_id": letters[0].upload_id,
                "moves": moves,
                "redriven_at": self._clock.now(),
            }
            key = (letters[0].upload_id or letters[0].topic).encode()
            await work.send(REDRIVES.name, key=key, value=self._codec.encode(mark), partition=0)

    def _heads(self) -> list[Version]:
        heads = [head_version(load_table(self._catalog, d.table)) for d in MARKET_DATASETS.values()]
        return [head for head in heads if head is not None]

    def _read(
        self, selection: Selection, limit: int, after: Position | None, without: Set[Position]
    ) -> Sequence[DeadLetter]:
        rows = scan_rows(self._catalog, DEAD_LETTERS.table, selection.condition())
        positions = zip(*(rows[name].to_pylist() for name in KEY), strict=True)
        chosen = sorted(
            (position, row)
            for row, position in enumerate(positions)
            if selection.has(position) and position not in without and (after is None or position > after)
        )
        return _letters(rows.take(pa.array([row for _, row in chosen[:limit]], pa.int64())))


def _unit(letter: DeadLetter) -> tuple[str, str]:
    return (letter.topic, letter.upload_id or "")


def _letters(rows: pa.Table) -> list[DeadLetter]:
    return [
        DeadLetter(
            topic=row["topic"],
            epoch=row["topic_epoch"],
            partition=row["topic_partition"],
            offset=row["topic_offset"],
            reason=row["reason"],
            lettered_at=row["lettered_at"],
            schema_id=row["schema_id"],
            upload_id=row["upload_id"],
            key=row["message_key"],
            value=row["message_value"],
        )
        for row in rows.to_pylist()
    ]
