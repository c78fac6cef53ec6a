"""Samples of Prometheus as promtool's input series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any

NOTHING, STALE = "_", "stale"


def input_series(
    found: Sequence[Mapping[str, Any]], *, start: float, step: float
) -> Sequence[Mapping[str, str]]:
    """Each series with its samples on a grid of `step` seconds from `start` to the last scrape.

    A series that a scrape did not find is stale from there on, as a server has it. Points in time count
    from `start`, where promtool's time is 0.
    """
    last = max(at for one in found for at, _ in one["values"])
    steps = int((last - start) // step) + 1
    series = [
        {"series": _selector(one["metric"]), "values": notation(_on_grid(one, start, step=step, steps=steps))}
        for one in found
    ]
    return sorted(series, key=lambda one: one["series"])


def notation(values: Sequence[str]) -> str:
    """The values in promtool's notation: equal ones, and ones that grow evenly, as one term.

    >>> notation(["1", "1", "1", "3", "5", "7", "_", "_"])
    '1x2 3+2x2 _x2'
    """
    return " ".join(_terms(values))


def _terms(values: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(values):
        length = _run(values, at)
        yield _term(values[at : at + length])
        at += length


def _term(run: Sequence[str]) -> str:
    first, more = run[0], len(run) - 1
    if first in (NOTHING, STALE):
        return first if not more else f"{first}x{len(run)}"
    if not more:
        return first
    step = Decimal(run[1]) - Decimal(first)
    return f"{first}x{more}" if not step else f"{first}{step:+f}x{more}"


def _run(values: Sequence[str], at: int) -> int:
    """How many values from `at` on are one term."""
    if values[at] in (NOTHING, STALE):
        return 1 if values[at] == STALE else next(len(list(same)) for _, same in groupby(values[at:]))
    length, step = 1, None
    for value, after in zip(values[at:], values[at + 1 :], strict=False):
        if after in (NOTHING, STALE) or step not in (None, Decimal(after) - Decimal(value)):
            break
        step = Decimal(after) - Decimal(value)
        length += 1
    # Two values that differ are shorter, and as clear, as two terms.
    return 1 if length == 2 and step else length


def _on_grid(one: Mapping[str, Any], start: float, *, step: float, steps: int) -> Sequence[str]:
    instant = one["metric"]["__name__"].endswith(("_timestamp_seconds", "start_time_seconds"))
    (first, _), *_ = one["values"]
    offset = int((first - start) // step)
    cells: dict[int, str] = {}
    for at, text in one["values"]:
        value = round(float(text) - (start if instant else 0), 3)
        cells[offset + round((at - first) / step)] = f"{Decimal(str(value)).normalize():f}"
    # Past the last sample of a target that is scraped a little earlier than others nothing is missing.
    values = [cells.get(cell, NOTHING) for cell in range(steps if max(cells) < steps - 2 else max(cells) + 1)]
    for cell, value in enumerate(values[1:], 1):
        if value == NOTHING and values[cell - 1] not in (NOTHING, STALE):
            # One scrape that came late is no gap.
            late = cell + 1 in cells
            values[cell] = values[cell - 1] if late else STALE
    return values


def _selector(metric: Mapping[str, str]) -> str:
    labels = ", ".join(f'{key}="{value}"' for key, value in sorted(metric.items()) if key != "__name__")
    return f"{metric['__name__']}{{{labels}}}"
