"""Back-adjustment for splits and dividends, by the multipliers of CRSP's standard, in exact fractions.

Rows before an ex-date are multiplied, rows from it on are as traded:

- a split of `ratio` new units for one old unit: prices by 1 / ratio, volumes by ratio;
- dividends of an ex-date, `amount` together: prices by 1 - amount / close, where close is the price of the
  last trade before the ex-date as traded.

Factors of several ex-dates are multiplied. Sources: CRSP, *Data Description Guide*, "Adjusted Data" (splits);
Yahoo Finance help, *What is the adjusted close?* (the dividend's multiplier).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Literal, TypeAlias

Adjustment: TypeAlias = Literal["raw", "split", "dividend", "all"]
KINDS: Mapping[Adjustment, tuple[str, ...]] = {
    "raw": (),
    "split": ("split",),
    "dividend": ("dividend",),
    "all": ("split", "dividend"),
}
MAX_DENOMINATOR = 10**12
"""A product of factors is the nearest fraction with at most this denominator, off by 1e-24 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A split or dividend of a series, and the last price before it where it is a dividend."""

    symbol: str
    venue: str
    kind: str
    ex_date: date
    ratio: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    close: Decimal | None = None
    close_currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The days [first_day, end_day) of a series in which prices and volumes are multiplied by the same."""

    symbol: str
    venue: str
    segment: int
    first_day: date
    end_day: date
    price: Fraction
    volume: Fraction

    @property
    def price_above(self) -> int:
        return self.price.numerator

    @property
    def price_below(self) -> int:
        return self.price.denominator

    @property
    def volume_above(self) -> int:
        return self.volume.numerator

    @property
    def volume_below(self) -> int:
        return self.volume.denominator


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusting:
    """The segments of all series that have any action, and each action with what came of it."""

    segments: Sequence[Segment] = ()
    notes: Sequence[Mapping[str, Any]] = ()


def adjusting(actions: Sequence[Action]) -> Adjusting:
    """The segments between the ex-dates; an action that cannot be applied changes nothing and says why."""
    segments: list[Segment] = []
    notes: list[Mapping[str, Any]] = []
    ordered = sorted(actions, key=lambda a: (a.symbol, a.venue, a.ex_date, a.kind))
    for (symbol, venue), of_series in groupby(ordered, key=attrgetter("symbol", "venue")):
        changes: list[tuple[date, Fraction, Fraction]] = []
        for (ex_date, _), same_day in groupby(of_series, key=attrgetter("ex_date", "kind")):
            together = list(same_day)
            price, volume, reason = _factors(together)
            if reason is None:
                changes.append((ex_date, price, volume))
            notes += [_note(action, price, volume, reason) for action in together]
        segments += _segments(symbol, venue, changes)
    return Adjusting(segments=segments, notes=notes)


def _factors(same_day: Sequence[Action]) -> tuple[Fraction, Fraction, str | None]:
    """The factors of the actions of one kind and ex-date, or why they have none."""
    one = Fraction(1)
    if same_day[0].kind == "split":
        if any(action.ratio is None or action.ratio <= 0 for action in same_day):
            return one, one, "NO_RATIO"
        volume = one
        for action in same_day:
            volume *= Fraction(action.ratio or 1)
        return 1 / volume, volume, None
    close = same_day[0].close
    if any(action.amount is None for action in same_day):
        return one, one, "NO_AMOUNT"
    if close is None or close <= 0:
        return one, one, "NO_CLOSE"
    if any(_foreign(action) for action in same_day):
        return one, one, "OTHER_CURRENCY"
    price = 1 - sum((Fraction(action.amount or 0) for action in same_day), Fraction(0)) / Fraction(close)
    return (price, one, None) if price > 0 else (one, one, "AMOUNT_NOT_BELOW_CLOSE")


def _foreign(action: Action) -> bool:
    known = action.currency is not None and action.close_currency is not None
    return known and action.currency != action.close_currency


def _segments(
    symbol: str, venue: str, changes: Sequence[tuple[date, Fraction, Fraction]]
) -> Sequence[Segment]:
    """From the first day to the last, in their order; nothing where nothing changes."""
    if not changes:
        return []
    days = [date.min, *sorted({ex_date for ex_date, _, _ in changes}), date.max]
    found = []
    for number, (first, end) in enumerate(pairwise(days), start=1):
        price = volume = Fraction(1)
        for ex_date, by_price, by_volume in changes:
            if ex_date >= end:
                price, volume = price * by_price, volume * by_volume
        found.append(
            Segment(
                symbol=symbol,
                venue=venue,
                segment=number,
                first_day=first,
                end_day=end,
                price=price.limit_denominator(MAX_DENOMINATOR),
                volume=volume.limit_denominator(MAX_DENOMINATOR),
            )
        )
    return found


def _note(action: Action, price: Fraction, volume: Fraction, reason: str | None) -> Mapping[str, Any]:
    def text(value: Decimal | None) -> str | None:
        return None if value is None else f"{value.normalize():f}"

    return {
        "symbol": action.symbol,
        "venue": action.venue,
        "kind": action.kind,
        "ex_date": action.ex_date.isoformat(),
        "ratio": text(action.ratio),
        "amount": text(action.amount),
        "close": text(action.close),
        "price_factor": None if reason else str(price),
        "volume_factor": None if reason else str(volume),
        "not_applied": reason,
    }
