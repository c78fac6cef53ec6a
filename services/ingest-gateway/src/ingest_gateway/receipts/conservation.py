"""Whether the tables hold the rows that the loader said it read: a sum that is 0 unless rows were lost or
doubled.

Two witnesses that know nothing of each other are compared. The statuses say how many rows a chunk had and at
which offsets they lie; the announcements say up to which offsets a version came and how many rows the table's
files hold, which Iceberg adds up from the files themselves. Rows at offsets beyond the version are in flight.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from k2common.observability.metrics import Series
from k2common.schemas.datasets import DATASETS, MARKET_DATASETS, REJECTS, Dataset
from k2common.versions.version import Version

from ingest_gateway.metrics import TERMS
from ingest_gateway.receipts.dead_letters import DeadLetters

SETTLING = timedelta(seconds=10)
"""A version is judged so long after it was heard of: statuses, letters and marks come by other topics."""
HOLE = timedelta(minutes=5)
"""So long one is waited for that was not announced when its successor was."""
CHECKED = (*MARKET_DATASETS.values(), REJECTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVersion:
    """A version, what its table held, when that was heard, and whether its predecessor was not."""

    version: Version
    rows: int
    at: datetime
    after_hole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The rows of one table since the first version that counts."""

    stated: int
    uncommitted: int
    committed: int
    dead_lettered: int
    redriven: int

    @property
    def unaccounted(self) -> int:
        """Rows that are missing, or below 0 rows that are too many."""
        return self.stated - self.uncommitted - self.committed - self.dead_lettered + self.redriven


class Ledger:
    """One table's rows: as stated by the statuses, and as its versions hold them."""

    def __init__(self, dataset: Dataset, letters: DeadLetters) -> None:
        self._topic = dataset.topic
        self._letters = letters
        self._base: SeenVersion | None = None
        self._judged: SeenVersion | None = None
        self._heard: deque[SeenVersion] = deque()
        self._batches: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self._removed: dict[int, int] = {}
        self._unplaced = 0
        self._passed = 0
        self._dead = 0

    def state(self, rows: int, places: Iterator[tuple[int, int, int, int]]) -> None:
        """A chunk had so many rows for the table, at these places: epoch, partition, first offset, count."""
        placed = 0
        for epoch, partition, first, count in places:
            placed += count
            self._batches[partition].append((epoch, first, count))
        self._unplaced += rows - placed

    def hear(self, version: Version, *, rows: int, removed: int, now: datetime, at_once: bool) -> None:
        """A version was announced, with which `removed` rows left the table for good.

        With `at_once` it takes the place of the one before where nothing lies between them: many come at the
        start, and only the last is judged.
        """
        newest = self._heard[-1] if self._heard else self._judged
        if removed:
            self._removed[version.number] = removed
        if newest is not None and version.number <= newest.version.number:
            return
        hole = newest is not None and version.number > newest.version.number + 1 and not at_once
        heard = SeenVersion(version=version, rows=rows, at=now, after_hole=hole)
        if at_once and len(self._heard) > 1 and not _has_restarted(self._heard[-1].version, version):
            self._heard[-1] = heard
        else:
            self._heard.append(heard)

    def sum(self, now: datetime, *, since: datetime | None) -> Sum | None:
        """The sum at the newest version that has settled; None before one that was committed since."""
        while self._heard and self._is_settled(self._heard[0], now):
            heard = self._heard.popleft()
            if self._base is not None or since is None or heard.version.committed_at >= since:
                self._judge(heard)
        if self._base is None or self._judged is None:
            return None
        self._pass(self._judged.version)
        ahead = sum(count for batches in self._batches.values() for _, _, count in batches)
        return Sum(
            stated=self._unplaced + self._passed + ahead,
            uncommitted=ahead,
            committed=self._judged.rows - self._base.rows + self._gone(self._base, self._judged),
            dead_lettered=self._dead,
            redriven=self._letters.back_between(
                self._topic.name, self._base.version.offsets, self._judged.version
            ),
        )

    def _gone(self, base: SeenVersion, judged: SeenVersion) -> int:
        numbers = range(base.version.number + 1, judged.version.number + 1)
        return sum(removed for number, removed in self._removed.items() if number in numbers)

    def _is_settled(self, heard: SeenVersion, now: datetime) -> bool:
        enough = now - heard.at >= (HOLE if heard.after_hole else SETTLING)
        return enough and self._letters.knows(self._topic, heard.version.dead_letters)

    def _judge(self, heard: SeenVersion) -> None:
        if self._judged is None or _has_restarted(self._judged.version, heard.version):
            self._begin(heard)
        self._judged = heard

    def _begin(self, heard: SeenVersion) -> None:
        """Count from here on: what lies below is as it is. Before the first version there was nothing."""
        self._passed = self._dead = 0
        if heard.version.number == 1:
            nothing = Version(
                table=heard.version.table,
                number=0,
                committed_at=heard.version.committed_at,
                schema_id=heard.version.schema_id,
                epoch=heard.version.epoch,
                offsets={},
            )
            self._base = SeenVersion(version=nothing, rows=0, at=heard.at)
        else:
            self._base, self._unplaced = heard, 0
            self._pass(heard.version, counted=False)

    def _pass(self, version: Version, *, counted: bool = True) -> None:
        """Take off the rows that lie below the version's offsets; those of an earlier epoch never count."""
        for partition, batches in self._batches.items():
            end = version.offsets.get(partition, 0)
            ahead = []
            for epoch, first, count in batches:
                below = min(count, max(0, end - first)) if epoch == version.epoch else 0
                if epoch < version.epoch:
                    continue
                if below and counted:
                    place = (self._topic.name, epoch, partition)
                    self._passed += below
                    self._dead += self._letters.lost_in(place, first, first + below)
                if below < count:
                    ahead.append((epoch, first + below, count - below))
            self._batches[partition] = ahead


class Conservation:
    """The ledgers of all tables that uploads fill."""

    def __init__(self, letters: DeadLetters) -> None:
        self._ledgers = {dataset.table: Ledger(dataset, letters) for dataset in CHECKED}
        self._begun = False
        self._since: datetime | None = None

    def begin(self, *, since: datetime | None) -> None:
        """All that the topics hold has been told; before `since` they no longer hold all statuses."""
        self._begun, self._since = True, since

    def on_status(self, status: Mapping[str, Any]) -> None:
        """Take the status of a chunk, each once."""
        rejected = status["rows_rejected"]
        accepted = status["rows_read"] - status["rows_filtered"] - rejected
        for dataset, rows in ((DATASETS[status["dataset"]], accepted), (REJECTS, rejected)):
            self._ledgers[dataset.table].state(rows, _places(status, dataset.topic.name))

    def on_commit(self, message: Mapping[str, Any], version: Version, now: datetime) -> None:
        """Take an announcement; one that does not say what the table held counts not."""
        ledger, rows = self._ledgers.get(version.table), message.get("rows")
        if ledger is not None and rows is not None:
            removed = message.get("rows_removed") or 0
            ledger.hear(version, rows=rows, removed=removed, now=now, at_once=not self._begun)

    def sums(self, now: datetime) -> Mapping[str, Sum]:
        """The sum of each table that has one."""
        if not self._begun:
            return {}
        found = {table: ledger.sum(now, since=self._since) for table, ledger in self._ledgers.items()}
        return {table: total for table, total in found.items() if total is not None}

    def unaccounted(self, now: datetime) -> Series:
        """As the metric has it."""
        return {(table,): total.unaccounted for table, total in self.sums(now).items()}

    def terms(self, now: datetime) -> Series:
        """As the metric has them."""
        return {
            (table, term): getattr(total, term) for table, total in self.sums(now).items() for term in TERMS
        }


def _places(status: Mapping[str, Any], topic: str) -> Iterator[tuple[int, int, int, int]]:
    for output in status["outputs"]:
        if output["topic"] == topic:
            yield (status["kafka_epoch"], output["partition"], output["base_offset"], output["count"])


def _has_restarted(judged: Version, version: Version) -> bool:
    """Whether main was rolled back, or the topics are of another epoch."""
    return judged.epoch != version.epoch or any(
        version.offsets.get(partition, 0) < offset for partition, offset in judged.offsets.items()
    )
