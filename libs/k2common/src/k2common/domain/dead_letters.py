"""A dead letter: a Kafka message that is no record of its topic, kept with its bytes and where it lay.

In the topic `<topic>.dlq` its key and value are the original ones, and all else is in headers. A message that
was put back into its topic carries the header `k2-redriven` with the position of the dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

from k2common.domain.time import format_datetime
from k2common.errors import RecordError

REDRIVEN_HEADER = "k2-redriven"
REASON_CHARACTERS = 1_000

Position: TypeAlias = tuple[str, int, int, int]
"""Topic, epoch, partition, offset: what a dead letter is known by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One message as it was, why it is no record, and the upload whose record batches it lies in."""

    topic: str
    epoch: int
    partition: int
    offset: int
    reason: str
    lettered_at: datetime
    schema_id: int | None = None
    upload_id: str | None = None
    key: bytes | None = None
    value: bytes | None = None

    @property
    def position(self) -> Position:
        """Where the message lay; a letter that was written twice is one."""
        return (self.topic, self.epoch, self.partition, self.offset)

    def headers(self) -> list[tuple[str, bytes]]:
        """Everything but key and value."""
        known: Mapping[str, object] = {
            "k2-topic": self.topic,
            "k2-epoch": self.epoch,
            "k2-partition": self.partition,
            "k2-offset": self.offset,
            "k2-reason": self.reason[:REASON_CHARACTERS],
            "k2-lettered-at": format_datetime(self.lettered_at),
            "k2-schema-id": self.schema_id,
            "k2-upload-id": self.upload_id,
        }
        return [(name, str(value).encode()) for name, value in known.items() if value is not None]

    @classmethod
    def of_message(
        cls, *, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
    ) -> Self:
        """The letter that a message of a dlq topic holds.

        Raises RecordError for a message that is none.
        """
        found = {name: (text or b"").decode("utf-8", "replace") for name, text in headers}
        schema_id = found.get("k2-schema-id")
        try:
            return cls(
                topic=found["k2-topic"],
                epoch=int(found["k2-epoch"]),
                partition=int(found["k2-partition"]),
                offset=int(found["k2-offset"]),
                reason=found["k2-reason"],
                lettered_at=datetime.fromisoformat(found["k2-lettered-at"]),
                schema_id=None if schema_id is None else int(schema_id),
                upload_id=found.get("k2-upload-id"),
                key=key,
                value=value,
            )
        except (KeyError, ValueError) as error:
            raise RecordError(f"a message that is no dead letter: {type(error).__name__} {error}") from error


def redriven_header(position: Position) -> tuple[str, bytes]:
    """The header of a message that is put back; it names the dead letter."""
    return REDRIVEN_HEADER, "/".join(map(str, position)).encode()
