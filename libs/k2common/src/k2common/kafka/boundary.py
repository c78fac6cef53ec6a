"""The decode boundary of every topic that is followed message by message.

A message that cannot be decoded, or that its reader cannot use, is counted, logged, kept as a dead letter and
passed; it never ends the reader. Dead letters are written at least once and known by their position.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice

from aiokafka import ConsumerRecord

from k2common.domain.dead_letters import DeadLetter, Position
from k2common.errors import K2Error, RecordError
from k2common.kafka.producer import TransactionalProducer
from k2common.observability.logging import get_logger
from k2common.schemas.datasets import dead_letter_topic_name
from k2common.settings.kafka import KafkaSettings

FRAME_BYTES = 5
LETTERS_PER_TRANSACTION = 500
GATHER_SECONDS = 1.0
"""A new producer takes a third of a second; what a follower passes is written together."""
FRAMING_BYTES = 16 * 1024
"""Room for headers and the batch around a dead letter."""
log = get_logger(__name__)


@contextmanager
def decode_boundary(record: ConsumerRecord) -> Iterator[None]:
    """Raise RecordError with topic, partition and offset for whatever the block raises about `record`.

    Other errors of this project and errors of the operating system say nothing of the record: they go on.
    """
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{_position(record)}: {error}") from error
    except (K2Error, OSError):
        raise
    # What a library says of bytes that it was not made for has no common type.
    except Exception as error:
        raise RecordError(f"{_position(record)}: {type(error).__name__}: {error}") from error


class UndecodableMessages:
    """Counts, logs and keeps the messages that a service passes, for all topics that it reads.

    Dead letters of the topics in `keeps` are written to `<topic>.dlq`; other services keep those of the rest.
    `owner` is the transactional id. `count` is called with the topic of each.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        owner: str,
        keeps: Collection[str] = (),
        count: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._keeps = frozenset(keeps)
        self._count = count
        self._now = now
        self._monotonic = monotonic
        self._pending_since = 0.0
        self._pending: dict[Position, DeadLetter] = {}
        self._lock = asyncio.Lock()

    def skip(self, record: ConsumerRecord, error: RecordError) -> None:
        """Pass a message; `keep` has to be awaited before its offset is given up."""
        self._count(record.topic)
        log.error(
            "message skipped",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error),
        )
        if record.topic in self._keeps:
            if not self._pending:
                self._pending_since = self._monotonic()
            letter = self._letter(record, error)
            # A reader that starts again before `keep` succeeded meets the message again.
            self._pending[letter.position] = letter

    def is_due(self) -> bool:
        """Whether dead letters have waited long enough for others to be written with them."""
        return bool(self._pending) and self._monotonic() - self._pending_since >= GATHER_SECONDS

    def first_pending(self, topic: str, partition: int) -> int | None:
        """The first offset whose dead letter is not written yet."""
        return min((o for t, _, p, o in self._pending if (t, p) == (topic, partition)), default=None)

    async def keep(self) -> None:
        """Write the dead letters of all messages that were passed; a committed read has shown them on return.

        Raises TransientError when Kafka is unavailable; the next call writes them.
        """
        if not self._pending:
            return
        async with self._lock, TransactionalProducer(self._settings, self._owner) as producer:
            while letters := list(islice(self._pending.values(), LETTERS_PER_TRANSACTION)):
                seconds = self._settings.request_timeout_seconds
                async with producer.transaction(read_back_seconds=seconds) as work:
                    for letter in letters:
                        await work.send(
                            dead_letter_topic_name(letter.topic),
                            key=letter.key,
                            value=letter.value,
                            partition=0,
                            headers=letter.headers(),
                        )
                for letter in letters:
                    self._pending.pop(letter.position, None)

    def _letter(self, record: ConsumerRecord, error: RecordError) -> DeadLetter:
        key, value, reason = record.key, record.value, str(error)
        if len(key or b"") + len(value or b"") > self._settings.max_request_bytes - FRAMING_BYTES:
            key = value = None
            reason = f"too large to be kept with its bytes; {reason}"
        return DeadLetter(
            topic=record.topic,
            epoch=self._settings.epoch,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            lettered_at=self._now(),
            schema_id=_schema_id(record.value),
            key=key,
            value=value,
        )


def _position(record: ConsumerRecord) -> str:
    return f"{record.topic} partition {record.partition} offset {record.offset}"


def _schema_id(value: bytes | None) -> int | None:
    if value is None or len(value) < FRAME_BYTES or value[0]:
        return None
    return int.from_bytes(value[1:FRAME_BYTES], "big")
