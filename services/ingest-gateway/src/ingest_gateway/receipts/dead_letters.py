"""The dead letters of uploads and what was put back of them, from the topics alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from k2common.domain.dead_letters import DeadLetter
from k2common.domain.progress import Progress
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.schemas.datasets import DEAD_LETTER_TOPICS, Topic, dead_letter_topic
from k2common.settings.kafka import KafkaSettings
from k2common.versions.version import Version

Place: TypeAlias = tuple[str, int, int]
"""Topic, epoch, partition."""


class DeadLetters:
    """Every dead letter by where it lay, once however often it was written, and every one put back.

    `reached` tells how far a dlq topic was read.
    """

    def __init__(self) -> None:
        self._offsets: dict[Place, set[int]] = defaultdict(set)
        self._back: dict[str, dict[Place, dict[int, tuple[int, int]]]] = defaultdict(dict)
        self.reached: Callable[[str], int] = lambda _: 0

    def follower(
        self,
        settings: KafkaSettings,
        *,
        changed: Callable[[], None],
        undecodable: UndecodableMessages | None = None,
    ) -> Follower:
        """A follower that feeds this object and calls `changed` after each letter."""

        async def on_record(record: Any) -> None:
            self.add(DeadLetter.of_message(key=None, value=None, headers=record.headers))
            changed()

        first, *more = DEAD_LETTER_TOPICS
        follower = Follower(settings, first, on_record=on_record, more=more, undecodable=undecodable)
        self.reached = lambda topic: follower.position(topic, 0)
        return follower

    def add(self, letter: DeadLetter) -> None:
        """Take a letter."""
        self._offsets[(letter.topic, letter.epoch, letter.partition)].add(letter.offset)

    def on_redrive(self, record: Mapping[str, Any]) -> None:
        """Take the mark that letters were put back."""
        of_upload = self._back[record["upload_id"] or ""]
        for move in record["moves"]:
            place = (record["topic"], move["epoch"], move["partition"])
            of_upload.setdefault(place, {})[move["offset"]] = (move["new_epoch"], move["new_offset"])

    def knows(self, topic: Topic, below: int) -> bool:
        """Whether all letters of `topic` below offset `below` of its dlq topic are known here."""
        return below == 0 or self.reached(dead_letter_topic(topic).name) >= below

    def lost(self, progress: Progress, topic: str) -> int:
        """How many of the upload's records in `topic` are dead letters."""
        return sum(
            progress.holds(topic, epoch=place[1], partition=place[2], offset=offset)
            for place, offsets in self._offsets.items()
            if place[0] == topic
            for offset in offsets
        )

    def lost_in(self, place: Place, first: int, end: int) -> int:
        """How many records at offsets `first` to `end` of the place are dead letters."""
        return sum(first <= offset < end for offset in self._offsets.get(place, ()))

    def back_between(self, topic: str, offsets: Mapping[int, int], version: Version) -> int:
        """How many letters of the topic were put back from `offsets` on and are rows of the version.

        One that became a dead letter again is none.
        """
        return sum(
            new_epoch == version.epoch
            and offsets.get(place[2], 0) <= new_offset < version.offsets.get(place[2], 0)
            and new_offset not in self._offsets.get((topic, new_epoch, place[2]), ())
            for of_upload in self._back.values()
            for place, moves in of_upload.items()
            if place[0] == topic
            for new_epoch, new_offset in moves.values()
        )

    def brought_back(self, upload_id: str, topic: str, *, epoch: int, offsets: Mapping[int, int]) -> int:
        """How many of the upload's letters are rows of the topic's table, which is at these offsets."""
        moves = {place: of_place for place, of_place in self._back[upload_id].items() if place[0] == topic}
        again = {(place, offset) for place, of_place in moves.items() for offset in of_place}
        return sum(
            place not in again and place[1] not in self._offsets[place[0]]
            for (_, _, partition), of_place in moves.items()
            for new_epoch, new_offset in of_place.values()
            if (new_epoch, new_offset) < (epoch, offsets.get(partition, 0))
            for place in [((topic, new_epoch, partition), new_offset)]
        )

    def ranges(self, upload_id: str, topic: str) -> Iterable[tuple[int, int, int, int]]:
        """Where the upload's letters were put back: epoch, partition, first offset, end."""
        for (name, _, partition), moves in self._back[upload_id].items():
            if name == topic:
                for epoch, offset in moves.values():
                    yield (epoch, partition, offset, offset + 1)
