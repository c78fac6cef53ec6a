"""Messages that are no records become dead letters, until too many of a topic are the fleet's own."""

from __future__ import annotations

from collections.abc import Sequence

from k2common.columnar.decode import Poison
from k2common.domain.dead_letters import DeadLetter
from k2common.errors import SetupError
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import Dataset

from iceberg_sink.settings import SinkSettings
from iceberg_sink.uploads.statuses import Statuses

WINDOW_MESSAGES = 100_000
STATUS_SECONDS = 2.0
"""A status is written with its records, but may be read a little later."""
STATUS_POLL_SECONDS = 0.05


class Limit:
    """Counts a topic's messages, the latest ones most, and what of them was no record."""

    def __init__(self, settings: SinkSettings) -> None:
        self._share = settings.dead_letter_share
        self._allowed = settings.dead_letters_allowed
        self._messages = 0.0
        self._poison = 0.0

    def passed(self, *, messages: int, poison: int) -> bool:
        """Count these too; whether more of all messages are no records than the settings allow."""
        self._messages += messages
        self._poison += poison
        beyond = self._poison > self._allowed and self._poison > self._share * self._messages
        if self._messages > WINDOW_MESSAGES:
            self._messages, self._poison = self._messages / 2, self._poison / 2
        return beyond


class DeadLetters:
    """Makes the dead letters of one dataset's topic."""

    def __init__(
        self, dataset: Dataset, *, statuses: Statuses, settings: SinkSettings, epoch: int, clock: Clock
    ) -> None:
        self._topic = dataset.topic.name
        self._statuses = statuses
        self._limit = Limit(settings)
        self._epoch = epoch
        self._clock = clock

    async def of(self, poison: Sequence[Poison], *, rows: int) -> Sequence[DeadLetter]:
        """The letters for what came among `rows` good ones, with the uploads that the statuses name.

        Raises SetupError when the fleet itself writes more of them than the settings allow.
        """
        deadline = self._clock.monotonic() + STATUS_SECONDS
        letters = [self._letter(entry, await self._upload(entry, deadline)) for entry in poison]
        # A message that no status names is a stranger's, or of a topic that none names: it stops nothing.
        own = [letter for letter in letters if letter.upload_id is not None]
        if self._limit.passed(messages=rows + len(own), poison=len(own)):
            first = own[0] if own else None
            where = (
                f", now partition {first.partition} offset {first.offset}: {first.reason}" if first else ""
            )
            raise SetupError(
                f"{self._topic}: too many messages of uploads are no records{where}. The table stays before "
                "them. Mend what writes them, or allow more with K2_SINK__DEAD_LETTER_SHARE"
            )
        return letters

    def of_strays(self, strays: Sequence[Poison]) -> Sequence[DeadLetter]:
        """The letters of records that belong to no upload; a stranger's flood of them stops nothing."""
        return [self._letter(stray, None) for stray in strays]

    def _letter(self, poison: Poison, upload_id: str | None) -> DeadLetter:
        return DeadLetter(
            topic=self._topic,
            epoch=self._epoch,
            partition=poison.partition,
            offset=poison.offset,
            reason=poison.reason,
            lettered_at=self._clock.now(),
            schema_id=poison.schema_id,
            upload_id=upload_id,
            key=poison.key,
            value=poison.value,
        )

    async def _upload(self, poison: Poison, deadline: float) -> str | None:
        while True:
            upload_id = self._statuses.upload_at(
                self._topic, epoch=self._epoch, partition=poison.partition, offset=poison.offset
            )
            if upload_id is not None or self._clock.monotonic() >= deadline:
                return upload_id
            await self._clock.sleep(STATUS_POLL_SECONDS)
