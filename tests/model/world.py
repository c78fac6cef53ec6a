"""The world of the model at one moment, and what may happen in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from k2common.domain.progress import Progress
from k2common.iceberg.commits import expiry
from k2common.schemas.datasets import TRADES

from tests.model.catalogue import Catalogue, Request, Row

TOPIC = TRADES.topic.name
NOW = datetime(2026, 3, 2, tzinfo=UTC)
FEWEST = expiry.Retention(live=1, recorded=lambda _: True)
RETENTION = expiry.Retention(live=2, recorded=lambda _: True)
Offsets = tuple[tuple[int, int | None], ...]
Fact = tuple[str, str]
"""`done` or `retract`, and an upload."""

NOTHING: frozenset[Fact] = frozenset()


class Work(NamedTuple):
    """A proposal, and the request that its owner is about to send; none before the table was read again."""

    number: int
    kind: str
    expected: Offsets = ()
    offsets: Offsets = ()
    facts: frozenset[Fact] = NOTHING
    request: Request | None = None


class Sink(NamedTuple):
    """What a replica knows: where it reads, the facts it has heard and those it may forget."""

    expected: Offsets | None = None
    facts: frozenset[Fact] = NOTHING
    settled: frozenset[Fact] = NOTHING
    work: Work | None = None


class State(NamedTuple):
    """The world at one moment. `history` holds each version ever committed with the rows it showed then."""

    catalogue: Catalogue = Catalogue()
    sinks: tuple[Sink, ...] = (Sink(), Sink())
    compactor: Work | None = None
    late: tuple[Request, ...] = ()
    public: frozenset[Fact] = NOTHING
    history: tuple[tuple[str, frozenset[Row]], ...] = ()
    rolled_back: bool = False
    left: int = 0


Step = tuple[str, State]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The uploads of the rows in each partition, what becomes of them, and how much goes wrong at most.

    `strays` are records that no status names, whatever upload they say that they are of.
    An upload that replaces another is posted once the other is shown. `kinds` are the disruptions to choose
    from, `disruptions` how many of them happen at most. `cut` as in `Catalogue.without`;
    `informed` sinks hear of everything before they do anything.
    """

    log: tuple[tuple[str, ...], ...]
    strays: frozenset[Row] = frozenset()
    failed: frozenset[str] = frozenset()
    replaces: Mapping[str, str] = field(default_factory=dict)
    retractable: tuple[str, ...] = ()
    kinds: frozenset[str]
    disruptions: int
    cut: bool = False
    informed: bool = False

    def rows_of(self, upload: str) -> frozenset[Row]:
        places = ((p, o) for p, log in enumerate(self.log) for o in range(len(log)))
        return frozenset(place for place in places if self.log[place[0]][place[1]] == upload) - self.strays

    @property
    def uploads(self) -> list[str]:
        places = ((p, o) for p, log in enumerate(self.log) for o in range(len(log)))
        return sorted({self.log[p][o] for p, o in places if (p, o) not in self.strays})

    def progress(self, upload: str) -> Progress:
        ends: dict[tuple[str, int], tuple[int, int]] = {}
        for partition, offset in sorted(self.rows_of(upload)):
            ends[(TOPIC, partition)] = (0, offset + 1)
        return Progress(
            upload_id=upload,
            dataset="trades",
            chunks=0,
            ends=ends,
            failure="X" if upload in self.failed else None,
            replaces=self.replaces.get(upload),
        )
