"""Metrics are declared where they are made: what each says, with which label values, when to look at it.

The reference is written from these declarations. A label has few values that are known beforehand; a symbol,
an upload, a user or a path is never one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from k2common.schemas.datasets import DATASETS, TABLES

__all__ = ["CollectorRegistry", "Counter", "Gauge", "Histogram"]

# Each counter and histogram would have a second series, with the time at which it began.
disable_created_metrics()  # type: ignore[no-untyped-call] # it has no types

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
UNITS = ("seconds", "bytes", "rows", "chunks")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds for the time of one step of work or one answer."""
LONG_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Bounds for the time of a whole upload."""
ROWS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 300_000.0, 1_000_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label with all its values; where the code does not list them `bound` says what they are."""

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""


TABLE = Label(name="table", values=tuple(TABLES))
DATASET = Label(name="dataset", values=tuple(DATASETS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One metric under the name of its series, `_total` included."""

    name: str
    kind: Kind
    meaning: str
    look: str
    labels: tuple[Label, ...] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends in; where it ends in none, what is counted, if anything is."""
        words = self.name.removeprefix("k2_").removeprefix("process_").removesuffix("_total").split("_")
        return words[-1] if words[-1] in UNITS else next((w for w in words if w.endswith("s")), "")

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Whether a series may have these labels."""
        known = {label.name: label for label in self.labels}
        return labels.keys() == known.keys() and all(
            not known[name].values or value in known[name].values for name, value in labels.items()
        )


Series: TypeAlias = Mapping[tuple[str, ...], float]
"""Values by those of the labels, in their order."""


class Scraped:
    """A gauge whose series are read from `source` whenever somebody asks, so that ages are never old."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self.source: Callable[[], Series] = dict

    def describe(self) -> Iterator[Metric]:
        """The name, for a registry that looks for doubles."""
        yield GaugeMetricFamily(self._name, self._meaning, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """The series as they are now."""
        family = GaugeMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, value in self.source().items():
            family.add_metric(values, value)
        yield family


class Aged(Scraped):
    """A gauge of the seconds since moments that are told as they change."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str], *, now: Callable[[], float]) -> None:
        super().__init__(name, meaning, labels)
        self._now = now
        self._moments: dict[tuple[str, ...], float | None] = {}
        self.source = self._ages

    def since(self, moment: float | None, *labels: str) -> None:
        """From now on this series is the time since `moment`, in Unix seconds; 0 for None."""
        self._moments[labels] = moment

    def forget(self, *labels: str) -> None:
        """There is nothing to say of this series any more."""
        self._moments.pop(labels, None)

    def _ages(self) -> Series:
        now = self._now()
        # A copy, since threads may tell a moment meanwhile.
        return {
            labels: 0.0 if moment is None else now - moment for labels, moment in [*self._moments.items()]
        }


class Declarations:
    """Makes metrics in a registry and keeps what they declare; `now` gives Unix seconds."""

    def __init__(self, registry: CollectorRegistry, *, now: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._now = now
        self.all: list[Declared] = []

    def counter(self, name: str, meaning: str, *, look: str, labels: Sequence[Label] = ()) -> Counter:
        """Something that only grows; `name` is without `_total`. It is 0 from the start for listed values."""
        self._declare(f"{name}_total", "counter", meaning, look, labels)
        counter = Counter(name, meaning, _names(labels), registry=self._registry)
        if labels and all(label.values for label in labels):
            for values in product(*(label.values for label in labels)):
                counter.labels(*values)
        return counter

    def gauge(self, name: str, meaning: str, *, look: str, labels: Sequence[Label] = ()) -> Gauge:
        """Something that goes up and down."""
        self._declare(name, "gauge", meaning, look, labels)
        return Gauge(name, meaning, _names(labels), registry=self._registry)

    def scraped(self, name: str, meaning: str, *, look: str, labels: Sequence[Label] = ()) -> Scraped:
        """A gauge that is computed when it is asked for."""
        self._declare(name, "gauge", meaning, look, labels)
        gauge = Scraped(name, meaning, _names(labels))
        self._registry.register(gauge)
        return gauge

    def aged(self, name: str, meaning: str, *, look: str, labels: Sequence[Label] = ()) -> Aged:
        """A gauge of ages."""
        self._declare(name, "gauge", meaning, look, labels)
        gauge = Aged(name, meaning, _names(labels), now=self._now)
        self._registry.register(gauge)
        return gauge

    def histogram(
        self, name: str, meaning: str, *, look: str, buckets: Sequence[float], labels: Sequence[Label] = ()
    ) -> Histogram:
        """How values are spread, with `buckets` as upper bounds."""
        self._declare(name, "histogram", meaning, look, labels)
        return Histogram(name, meaning, _names(labels), buckets=buckets, registry=self._registry)

    def _declare(self, name: str, kind: Kind, meaning: str, look: str, labels: Sequence[Label]) -> None:
        declared = Declared(name=name, kind=kind, meaning=meaning, look=look, labels=tuple(labels))
        self.all.append(declared)


def _names(labels: Sequence[Label]) -> list[str]:
    return [label.name for label in labels]
