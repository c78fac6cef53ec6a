"""A version is a table's state after a sink commit: a document that says which rows it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from k2common.errors import RecordError
from k2common.versions.hidden import Files, HiddenUpload, from_json, to_json, unread

TICK = timedelta(microseconds=1)
MARKET = "market."
TOKEN_PART = re.compile(r"(?P<table>[a-z_]+(?:\.[a-z_]+)?)@(?P<number>[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The document in the snapshot summary of a sink commit.

    `offsets` holds the next offset of each partition in `epoch`. `gone` holds inclusive spans of version
    numbers whose rows were purged or that main was rolled back from. `resume` says per topic and partition
    where a new sink goes on reading.
    `ended` holds, for each earlier epoch whose log is no more, the table's last offsets in it.
    All dead letters that the offsets have passed lie below offset `dead_letters` of `<topic>.dlq`.
    `state` is the location of a file that the work on the table goes on from.
    """

    table: str
    number: int
    committed_at: datetime
    schema_id: int
    epoch: int
    offsets: Mapping[int, int]
    hidden: Mapping[str, HiddenUpload] = field(default_factory=dict)
    gone: tuple[tuple[int, int], ...] = ()
    resume: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    ended: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    dead_letters: int = 0
    state: str | None = None

    def shows(self, upload_id: str, *, epoch: int, partition: int, offset: int) -> bool:
        """Whether the row at this position belongs to the version: the rule that every reader applies."""
        below = epoch < self.epoch or (epoch == self.epoch and offset < self.offsets.get(partition, 0))
        return below and upload_id not in self.hidden

    def is_gone(self, number: int) -> bool:
        """Whether rows that version `number` of this table saw were purged."""
        return any(first <= number <= last for first, last in self.gone)

    def to_json(self) -> str:
        """Canonical JSON: equal versions give equal text."""
        document = {
            "table": self.table,
            "number": self.number,
            "committed_at": self.committed_at.astimezone(UTC).isoformat(timespec="microseconds"),
            "schema_id": self.schema_id,
            "offsets": {"epoch": self.epoch, **_to_text_keys(self.offsets)},
            **to_json(self.hidden),
            "gone": [list(span) for span in self.gone],
            "resume": {topic: _to_text_keys(offsets) for topic, offsets in self.resume.items()},
            **({"ended": {str(e): _to_text_keys(o) for e, o in self.ended.items()}} if self.ended else {}),
            **({"dead_letters": self.dead_letters} if self.dead_letters else {}),
            **({} if self.state is None else {"state": self.state}),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, files: Files = unread) -> Self:
        """The version that `to_json` wrote; `files` are for what it hides."""
        document: dict[str, Any] = json.loads(text)
        offsets = dict(document["offsets"])
        return cls(
            table=document["table"],
            number=document["number"],
            committed_at=datetime.fromisoformat(document["committed_at"]),
            schema_id=document["schema_id"],
            epoch=offsets.pop("epoch"),
            offsets=_to_int_keys(offsets),
            hidden=from_json(document, files),
            gone=tuple((first, last) for first, last in document["gone"]),
            resume={topic: _to_int_keys(offsets) for topic, offsets in document["resume"].items()},
            ended={int(e): _to_int_keys(offsets) for e, offsets in document.get("ended", {}).items()},
            dead_letters=document.get("dead_letters", 0),
            state=document.get("state"),
        )

    def successor(
        self, *, now: datetime, offsets: Mapping[int, int], hidden: Mapping[str, HiddenUpload]
    ) -> Self:
        """The next version: its time is later than this one's even if the clock went back.

        Raises ValueError when an offset would go back.
        """
        back = [p for p, offset in offsets.items() if offset < self.offsets.get(p, 0)]
        if back:
            raise ValueError(f"{self.table}: the offsets of partitions {back} would go back")
        return replace(
            self,
            number=self.number + 1,
            committed_at=max(now, self.committed_at + TICK),
            offsets={**self.offsets, **offsets},
            hidden=hidden,
        )


def format_token(numbers: Mapping[str, int]) -> str:
    """The name of versions of several tables, such as `quotes@987,trades@1234`; `market.` is left out."""
    return ",".join(f"{table.removeprefix(MARKET)}@{number}" for table, number in sorted(numbers.items()))


def parse_token(text: str) -> Mapping[str, int]:
    """The version number per table.

    Raises RecordError when the text is no token or names a table twice.
    """
    numbers: dict[str, int] = {}
    for part in text.split(","):
        match = TOKEN_PART.fullmatch(part)
        if match is None:
            raise RecordError(f"{part!r} is not <table>@<number>")
        table = match["table"] if "." in match["table"] else MARKET + match["table"]
        if table in numbers:
            raise RecordError(f"{table} stands twice in the token")
        numbers[table] = int(match["number"])
    return numbers


def merge_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same numbers in the fewest spans, both ends inclusive."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def version_at(versions: Iterable[Version], moment: datetime) -> Version | None:
    """The newest version committed by `moment`, or None when there was none yet."""
    known: Sequence[Version] = [version for version in versions if version.committed_at <= moment]
    return max(known, key=lambda version: version.number, default=None)


def _to_text_keys(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in offsets.items()}


def _to_int_keys(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in offsets.items()}
