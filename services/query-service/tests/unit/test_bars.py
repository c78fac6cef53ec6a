"""Bars equal a slow calculation in plain Python, for each timeframe, fill, session and zone."""

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from k2common.domain.time import parse_time
from k2common.engine.scan import Filter
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import TRADES
from k2common.testing.rows import append_rows
from query_service.answers.answer_context import AnswerDependencies, resolved
from query_service.bars.bars import SCHEMA, Bars, Question
from query_service.bars.timeframes import parse_timeframe
from query_service.trades.conditions import rule_of

SECOND = 10**9
SYDNEY = "Australia/Sydney"
DATA = Path(__file__).parents[5] / "shared" / "data" / "asx-2014-03" / "trades" / "7078.csv"
FIGURES = ("open", "high", "low", "close", "volume", "vwap", "twap", "trade_count")
WIDTHS = {"Sec": 1, "Min": 60, "Hour": 3600}


@dataclass(frozen=True)
class Slow:
    """Bars of the trades of one series, one after another, each by its definition."""

    timeframe: str
    zone: str
    fill: str = "none"
    sessions: Sequence[tuple[int, int]] | None = None
    start: int | None = None
    end: int | None = None

    def period(self, ns: int) -> tuple[int, int]:
        zone = ZoneInfo(self.zone)
        day = datetime.fromtimestamp(ns // SECOND, zone).date()
        number, unit = (
            int("".join(c for c in self.timeframe if c.isdigit())),
            self.timeframe.lstrip("0123456789"),
        )

        def midnight(of: date) -> int:
            return int(datetime(of.year, of.month, of.day, tzinfo=zone).timestamp()) * SECOND

        if unit in WIDTHS:
            width, start = number * WIDTHS[unit] * SECOND, midnight(day)
            first = ns - (ns - start) % width
            return first, min(first + width, midnight(day + timedelta(days=1)))
        if unit == "Month":
            first = day.replace(day=1)
            first = first.replace(month=first.month - (first.month - 1) % number)
            later = first + timedelta(days=31 * number)
            return midnight(first), midnight(later.replace(day=1))
        days = number * (7 if unit == "Week" else 1)
        origin = date(1970, 1, 5) if unit == "Week" else date(1970, 1, 1)
        first = day - timedelta(days=(day - origin).days % days)
        return midnight(first), midnight(first + timedelta(days=days))

    def bars(self, trades: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        trades = [t for t in trades if self._in_range(t["ts_event"])]
        if not trades:
            return
        counted: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        for trade in sorted(trades, key=total_order):
            if self._open(trade["ts_event"], trade["ts_event"] + 1):
                counted.setdefault(self.period(trade["ts_event"]), []).append(trade)
        times = [trade["ts_event"] for trade in trades]
        first = min(times) if self.start is None else self.start
        until = max(times) + 1 if self.end is None else self.end
        before = None
        at = self.period(first)
        while at[0] < until:
            bar = figures(counted[at]) if at in counted else self._empty(at, before)
            if bar is not None:
                before = bar["close"] if at in counted else before
                yield {"ts_event_ns": at[0], "ts_end_ns": at[1], **bar}
            at = self.period(at[1])

    def _in_range(self, ns: int) -> bool:
        return (self.start is None or ns >= self.start) and (self.end is None or ns < self.end)

    def _open(self, first: int, end: int) -> bool:
        return self.sessions is None or any(a < end and first < b for a, b in self.sessions)

    def _empty(self, at: tuple[int, int], before: Decimal | None) -> dict[str, Any] | None:
        if self.fill == "none" or not self._open(*at):
            return None
        price = {"null": None, "zero": Decimal(0), "prev": before}[self.fill]
        amount = None if self.fill == "null" else 0
        prices = dict.fromkeys(("open", "high", "low", "close", "vwap", "twap"), price)
        return {**prices, "volume": amount, "trade_count": amount}


def total_order(trade: Mapping[str, Any]) -> tuple[Any, ...]:
    sequence = trade.get("sequence")
    return trade["ts_event"], sequence is None, sequence or 0, trade.get("upload_id", "U1"), trade["line"]


def figures(trades: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    prices = [Decimal(trade["price"]) for trade in trades]
    sizes = [Decimal(trade["size"]) for trade in trades]
    times = [trade["ts_event"] for trade in trades]
    held = [after - at for at, after in pairwise(times)]
    volume = sum(sizes, Decimal(0))
    notional = sum((Fraction(p) * Fraction(s) for p, s in zip(prices, sizes, strict=True)), Fraction(0))
    timed = sum((Fraction(p) * h for p, h in zip(prices, held, strict=False)), Fraction(0))
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "vwap": twelve(notional / Fraction(volume)) if volume else None,
        "twap": twelve(timed / sum(held)) if sum(held) else prices[-1],
        "trade_count": len(trades),
    }


def twelve(exact: Fraction) -> Decimal:
    """Twelve digits, half to even: Python rounds a fraction so."""
    return Decimal(round(exact * 10**12)).scaleb(-12)


def sydney_sessions(first: date, last: date) -> list[tuple[int, int]]:
    zone = ZoneInfo(SYDNEY)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [
        tuple(int(datetime(d.year, d.month, d.day, h, tzinfo=zone).timestamp()) * SECOND for h in (10, 16))
        for d in days
        if d.weekday() < 5
    ]


def generated(seed: int, *, count: int, first: str, last: str, ties: bool = True) -> list[dict[str, Any]]:
    """Trades at random times with ties of every kind: same time, same sequence, no sequence."""
    rng = random.Random(seed)
    lo, hi = parse_time(first), parse_time(last)
    times = [rng.randrange(lo, hi) for _ in range(count)]
    trades = []
    for line, at in enumerate(times, start=1):
        time = rng.choice(times) if ties and rng.random() < 0.4 else at
        trades.append(
            {
                "ts_event": time,
                "sequence": rng.choice([None, rng.randrange(5)]),
                "price": str(Decimal(rng.randrange(1, 10**7)).scaleb(-rng.randrange(0, 7))),
                "size": str(Decimal(rng.randrange(0, 10**6)).scaleb(-rng.randrange(0, 5))),
                "line": line,
                "upload_id": rng.choice(["U1", "U2"]),
            }
        )
    return trades


async def bars(
    parts: AnswerDependencies, timeframe: str, *, page: int = 10_000, **given: Any
) -> list[dict[str, Any]]:
    """All bars of the newest version, page by page."""
    wanted = given.pop("wanted", Filter())
    question = Question(
        timeframe=parse_timeframe(timeframe),
        wanted=wanted,
        rule=given.pop("rule", rule_of(None, (), ())),
        **given,
    )
    engine = Bars(parts)
    prepared = await engine.prepare(await resolved(parts, None, (TRADES,)), question)
    columns = ", ".join(SCHEMA.names)
    found: list[dict[str, Any]] = []
    key = None
    while True:
        rows, key = await engine.page(prepared, columns, page, key)
        found += [] if rows is None else rows.select(SCHEMA.names).to_pylist()
        if key is None:
            break
    if page < 10_000:
        batches = engine.stream(prepared, columns, None)
        assert [row async for batch in batches for row in batch.to_pylist()] == found
    return found


def compared(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("ts_event_ns", "ts_end_ns", *FIGURES)} for row in found]


DST = {"first": "2014-04-03T20:00Z", "last": "2014-04-08T09:00Z"}


@pytest.mark.parametrize(
    ("timeframe", "page"),
    [
        ("7Min", 400),
        ("1Hour", 60),
        ("5Hour", 11),
        ("1Day", 2),
        ("2Day", 10_000),
        ("1Week", 1),
        ("1Month", 9),
    ],
)
async def test_bars_across_a_change_of_clocks(
    catalog: Catalog, parts: AnswerDependencies, timeframe: str, page: int
) -> None:
    trades = generated(1, count=400, **DST)
    append_rows(catalog, TRADES, trades)
    sessions = sydney_sessions(date(2014, 4, 1), date(2014, 4, 30))
    start, end = parse_time("2014-04-03T18:00Z"), parse_time("2014-04-08T11:30Z")
    ranged = {"wanted": Filter(start_ns=start, end_ns=end)}
    for fill, given, zone in (
        ("zero", {"zone": SYDNEY}, SYDNEY),
        ("prev", {"align": "venue", "regular": True}, SYDNEY),
        ("none", {"align": "utc", "zone": SYDNEY, "regular": True}, "UTC"),
        ("null", ranged, "UTC"),
        ("prev", {**ranged, "zone": SYDNEY}, SYDNEY),
    ):
        bounded = {"start": start, "end": end} if "wanted" in given else {}
        slow = Slow(timeframe, zone, fill, sessions if "regular" in given else None, **bounded)
        found = await bars(parts, timeframe, page=page, fill=fill, **given)
        assert compared(found) == list(slow.bars(trades)), (fill, given)


@pytest.fixture(scope="module")
def bhp() -> list[dict[str, Any]]:
    """The trades of BHP on 11 March 2014 in Sydney, read by hand."""
    # Real files are never in the repository, so a checkout alone has none.
    if not DATA.is_file():
        pytest.skip("the sample data is not beside the checkout")
    zone = ZoneInfo(SYDNEY)
    trades = []
    with DATA.open(newline="") as lines:
        for line, (day, clock, price, size, qualifiers, venue, _) in enumerate(csv.reader(lines), start=1):
            if day != "03/11/2014":
                continue
            at = datetime.strptime(f"{day} {clock}", "%m/%d/%Y %H:%M:%S.%f").replace(tzinfo=zone)
            trades.append(
                {
                    "ts_event": int(at.timestamp()) * SECOND + at.microsecond * 1000,
                    "price": price,
                    "size": size,
                    "conditions": qualifiers.split(),
                    "flags": 32 if qualifiers in {"1", "3", "9"} or venue == "X" else 0,
                    "line": line,
                    "trading_date": date(2014, 3, 11),
                }
            )
    return trades


async def test_bars_of_a_day_of_bhp(
    catalog: Catalog, parts: AnswerDependencies, bhp: list[dict[str, Any]]
) -> None:
    append_rows(catalog, TRADES, bhp)
    sessions = sydney_sessions(date(2014, 3, 10), date(2014, 3, 12))
    on_market = [trade for trade in bhp if not trade["flags"]]
    for timeframe, fill, regular, zone in (
        ("5Sec", "none", False, "UTC"),
        ("1Min", "prev", True, SYDNEY),
        ("1Min", "null", False, "UTC"),
        ("30Min", "zero", True, "America/New_York"),
        ("1Hour", "none", True, "UTC"),
        ("1Day", "none", True, SYDNEY),
        ("1Day", "prev", False, "UTC"),
        ("1Week", "null", False, SYDNEY),
        ("1Month", "zero", True, "UTC"),
    ):
        slow = Slow(timeframe, zone, fill, sessions if regular else None)
        found = await bars(parts, timeframe, fill=fill, regular=regular, zone=zone)
        assert compared(found) == list(slow.bars(on_market)), (timeframe, fill, regular, zone)
    (whole,) = await bars(parts, "1Day", zone=SYDNEY, rule=rule_of("include", (), ()))
    golden = [Decimal(text) for text in ("40.0", "42.0", "35.772", "36.124", "8919376")]
    assert [whole[name] for name in ("open", "high", "low", "close", "volume")] == golden
    assert whole["trade_count"] == 21_681
    start, end = (parse_time(f"2014-03-11T{hour}:00", zone=SYDNEY) for hour in (10, 17))
    (market,) = await bars(
        parts, "1Day", zone=SYDNEY, rule=rule_of(None, ("0",), ()), wanted=Filter(start_ns=start, end_ns=end)
    )
    golden = [Decimal(text) for text in ("35.94", "36.45", "35.84", "35.95", "5554157")]
    assert [market[name] for name in ("open", "high", "low", "close", "volume")] == golden
    assert market["trade_count"] == 18_218


@pytest.mark.parametrize("timeframe", ["1Hour", "tick:7", "volume:12345.6", "dollar:1000000"])
async def test_bars_do_not_depend_on_where_rows_lie(
    catalog: Catalog, parts: AnswerDependencies, timeframe: str
) -> None:
    trades = generated(2, count=300, first="2014-03-11T00:00Z", last="2014-03-11T08:00Z")
    append_rows(catalog, TRADES, trades)
    shuffled = [{**trade, "symbol": "RIO"} for trade in trades]
    random.Random(3).shuffle(shuffled)
    for first in range(0, 300, 75):
        append_rows(catalog, TRADES, shuffled[first : first + 75])
    found = await bars(parts, timeframe)
    one, other = (compared([bar for bar in found if bar["symbol"] == symbol]) for symbol in ("BHP", "RIO"))
    assert one == other
    assert len(one) > 5
