"""Files of market data with what real ones are full of: the same arguments give the same bytes, everywhere.

Prints off the market, rows equal in every column, ties of timestamp, crossed, locked and one-sided quotes,
breaks in the sequences, ticks from a cent to 1e-8. Trades and quotes of one seed move around the same prices.
Only draws, integers and single divisions make the values, so that no processor rounds them in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from k2common.columnar.arrow import Column

Integers: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

DAY_NS = 86_400_000_000_000
MINUTE_NS = 60_000_000_000
DIGITS = 8
UNIT = 10**DIGITS
"""Prices and sizes are counted in 1e-8."""

FIRST_DAY = date(2026, 3, 2)
HOURS = (570 * MINUTE_NS, 960 * MINUTE_NS)
OFF_MARKET = ("1", "3", "9")
"""The conditions of prints off the market."""

ASX_HOURS = (600 * MINUTE_NS, 1_019 * MINUTE_NS)
ASX_ID = "7078"
ASX_DAYS = tuple(f"03/{day}/2014" for day in range(10, 15))
ASX_COMPANIES = b"""company_id,symbol,company_name,ISIN,start_date,end_date\r
3153,MWR,MGM WIRELESS LTD,AU000000MWR6,11/06/2003,03/31/2014\r
7078,BHP,BHP BILLITON LTD,AU000000BHP4,05/07/2008,03/31/2014\r
7181,DVN,DEVINE LIMITED,AU000000DVN8,09/28/1993,03/31/2014\r
"""

# Shares of the rows, near those of files from NASDAQ, the Australian exchange and Binance.
REPEATED = 0.04
TIED = 0.4
SWEEPING = 0.75
OFF = 0.003
BROKEN = 0.0005
EARLY = 0.005
CROSSED, LOCKED, NO_BID, NO_ASK = 0.004, 0.006, 0.003, 0.004


def trades_csv(
    rows: int, *, seed: int, symbols: int = 20, venue: str = "XTST", day: date = FIRST_DAY, days: int = 1
) -> bytes:
    """A file of trades for the layout `k2`, with `rows` rows over `days` calendar days from `day`.

    Event times are nanoseconds, never falling, from 09:30 to 16:00 UTC of each day. Sequences count by symbol
    and day from 1. `conditions` has one of OFF_MARKET where a print is off the market.
    """
    rng = np.random.default_rng([seed, 1])
    market = Market.make(seed, symbols)
    feed = Feed.make(rng, rows, symbols=symbols, days=days, hours=HOURS)
    buys = (rng.random(feed.events) < 0.5)[feed.leads]
    off = rng.random(feed.events) < OFF
    ts = feed.ts_ns(day)
    columns = {
        "ts_event_ns": pa.array(ts),
        "ts_recv_ns": pa.array(ts + _delays(rng, feed.events)),
        "symbol": market.symbol_names(feed),
        "venue": _constant(venue, feed.events),
        "price": decimal_text(market.trade_prices(rng, feed, buys=buys, off=off)),
        "size": decimal_text(market.sizes(rng, feed) * np.where(off, 100, 1)),
        "side": _sides(rng, buys),
        "trade_id": _ids("t", feed.events),
        "sequence": pa.array(feed.sequences(rng, symbols)),
        "conditions": _conditions(rng, off, ("0", "25", "2", "2 25", "27", "5", "")),
        "currency": _constant("USD", feed.events),
    }
    return _csv(columns, feed.places)


def quotes_csv(
    rows: int, *, seed: int, symbols: int = 20, venue: str = "XTST", day: date = FIRST_DAY, days: int = 1
) -> bytes:
    """A file of quotes for the layout `k2`; see `trades_csv`. A side that is not there is empty."""
    rng = np.random.default_rng([seed, 2])
    market = Market.make(seed, symbols)
    feed = Feed.make(rng, rows, symbols=symbols, days=days, hours=HOURS)
    book = Book.make(rng, feed, market)
    columns = {
        "ts_event_ns": pa.array(feed.ts_ns(day)),
        "symbol": market.symbol_names(feed),
        "venue": _constant(venue, feed.events),
        "bid_price": decimal_text(book.bids, missing=book.no_bid),
        "bid_size": decimal_text(market.sizes(rng, feed), missing=book.no_bid),
        "ask_price": decimal_text(book.asks, missing=book.no_ask),
        "ask_size": decimal_text(market.sizes(rng, feed), missing=book.no_ask),
        "quote_id": _ids("q", feed.events),
        "sequence": pa.array(feed.sequences(rng, symbols)),
        "currency": _constant("USD", feed.events),
    }
    return _csv(columns, feed.places)


def asx_files(rows: int, *, seed: int) -> dict[str, bytes]:
    """Files as the Australian exchange's vendor writes them, for the layouts `asx-…`, by their names.

    `company_info.csv` tells that 7078 is BHP. `trades/7078.csv` and `quotes/7078.csv` have `rows` rows each,
    no header, CRLF, Sydney time of 10 to 14 March 2014 from 10:00 to 16:59. A missing side is 0.0.
    """
    market = Market(
        tick=_whole([500_000]), base=_whole([7_200]), waves=_waves(np.random.default_rng(seed), 1)
    )
    return {
        "company_info.csv": ASX_COMPANIES,
        f"trades/{ASX_ID}.csv": _asx_trades(np.random.default_rng([seed, 3]), rows, market),
        f"quotes/{ASX_ID}.csv": _asx_quotes(np.random.default_rng([seed, 4]), rows, market),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """When something happens to which instrument. `places` says which event each row of the file shows.

    `clock` counts nanoseconds of trading from the first day's opening; `leads` names for each event the one
    that began its sweep through the book: the same order at the same time in the same instrument.
    """

    places: Integers
    clock: Integers
    leads: Integers
    instruments: Integers
    open_ns: int
    session_ns: int

    @classmethod
    def make(
        cls, rng: np.random.Generator, rows: int, *, symbols: int, days: int, hours: tuple[int, int]
    ) -> Self:
        """Draw the events behind `rows` rows; `hours` are nanoseconds from midnight."""
        new = rng.random(rows) >= REPEATED
        new[:1] = True
        events = int(new.sum())
        tied = rng.random(events) < TIED
        tied[:1] = False
        gaps = np.where(tied, 0, rng.integers(1, 1_000, events) ** 2)
        elapsed = np.cumsum(gaps) / (gaps.sum() + 1)
        sweeping = tied & (rng.random(events) < SWEEPING)
        leads = np.maximum.accumulate(np.where(sweeping, 0, np.arange(events)))
        # The k-th instrument trades in proportion to 1 / (k + 3).
        weights = np.cumsum(1 / (np.arange(symbols) + 3))
        drawn = np.searchsorted(weights, rng.random(events) * weights[-1], side="right")
        return cls(
            places=np.cumsum(new) - 1,
            clock=(elapsed * (days * (hours[1] - hours[0]))).astype(np.int64),
            leads=leads,
            instruments=drawn[leads],
            open_ns=hours[0],
            session_ns=hours[1] - hours[0],
        )

    @property
    def events(self) -> int:
        """How many there are; a file has more rows, since some events stand in it twice."""
        return len(self.clock)

    def ts_ns(self, day: date) -> Integers:
        """Nanoseconds since 1970 when the first day is `day`."""
        first = int(np.datetime64(day, "D").astype(np.int64)) * DAY_NS + self.open_ns
        days, within = np.divmod(self.clock, self.session_ns)
        return first + days * DAY_NS + within

    def sequences(self, rng: np.random.Generator, symbols: int) -> Integers:
        """Numbers by instrument and day, with a few breaks."""
        group = self.clock // self.session_ns * symbols + self.instruments
        order = np.argsort(group, kind="stable")
        steps = 1 + np.where(rng.random(self.events) < BROKEN, rng.integers(1, 50, self.events), 0)
        counted = np.cumsum(steps)
        first = np.flatnonzero(np.diff(group[order], prepend=-1))
        before = (counted - steps)[first]
        sequences = np.empty(self.events, np.int64)
        sequences[order] = counted - np.repeat(before, np.diff(first, append=self.events))
        return sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Ticks in 1e-8, prices in ticks, and triangular waves around them: period, phase and height each."""

    tick: Integers
    base: Integers
    waves: Sequence[tuple[Integers, Integers, Integers]]

    @classmethod
    def make(cls, seed: int, symbols: int) -> Self:
        """The instruments of a seed: shares in cents, in half cents, in 1e-4, coins in 1e-8, in rotation."""
        rng = np.random.default_rng([seed, 0])
        kind = np.arange(symbols) % 4
        low, high = _whole([1_500, 5_000, 2_000, 5_000])[kind], _whole([30_000, 20_000, 9_000, 50_000])[kind]
        return cls(
            tick=_whole([1_000_000, 500_000, 10_000, 1])[kind],
            base=rng.integers(low, high),
            waves=_waves(rng, symbols),
        )

    def symbol_names(self, feed: Feed) -> Column:
        """Each event's symbol."""
        names = pa.array([f"SYM{number:03d}" for number in range(len(self.tick))])
        return names.take(pa.array(feed.instruments))

    def levels(self, feed: Feed) -> Integers:
        """Each instrument's price in ticks, a function of the time alone."""
        levels = self.base[feed.instruments]
        for periods, phases, heights in self.waves:
            period = periods[feed.instruments]
            at = (feed.clock + phases[feed.instruments]) % period
            levels += heights[feed.instruments] * np.minimum(at, period - at) // (period // 2)
        return levels

    def trade_prices(self, rng: np.random.Generator, feed: Feed, *, buys: Mask, off: Mask) -> Integers:
        """In 1e-8: around the level, or up to a fifth away from it where `off`, between the ticks too."""
        levels = self.levels(feed) + np.where(buys, 1, -1) * rng.integers(0, 3, feed.events)
        away = rng.integers(30, 200, feed.events) * np.where(rng.random(feed.events) < 0.5, 1, -1)
        prices = levels * self.tick[feed.instruments]
        return np.where(off, prices * (1_000 + away) // 1_000, prices)

    def sizes(self, rng: np.random.Generator, feed: Feed) -> Integers:
        """In 1e-8: whole numbers, mostly hundreds, or fractions where the tick is 1e-8."""
        lots = 100 * rng.integers(1, 11, feed.events)
        odd = rng.integers(1, 2_500, feed.events)
        fractions = rng.integers(1, 50 * UNIT, feed.events)
        whole = np.where(rng.random(feed.events) < 0.6, lots, odd) * UNIT
        return np.where(self.tick[feed.instruments] == 1, fractions, whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Best prices in 1e-8, and where a side is missing."""

    bids: Integers
    asks: Integers
    no_bid: Mask
    no_ask: Mask

    @classmethod
    def make(cls, rng: np.random.Generator, feed: Feed, market: Market) -> Self:
        """Spreads of two to six ticks, but for the quotes that are crossed, locked or one-sided."""
        levels, tick = market.levels(feed), market.tick[feed.instruments]
        below, above = rng.integers(1, 4, feed.events), rng.integers(1, 4, feed.events)
        drawn = rng.random(feed.events)
        bounds = np.cumsum([CROSSED, LOCKED, NO_BID, NO_ASK])
        crossed, locked, no_bid, no_ask = (
            (drawn >= start) & (drawn < end) for start, end in zip([0, *bounds], bounds, strict=False)
        )
        bids = np.select([crossed, locked], [levels + above, levels], levels - below)
        asks = np.select([crossed, locked], [levels - below, levels], levels + above)
        return cls(bids=bids * tick, asks=asks * tick, no_bid=no_bid, no_ask=no_ask)


def decimal_text(units: Integers, *, missing: Mask | None = None, point: str = "") -> Column:
    """Values from 0 on, in 1e-8, as decimals without trailing zeros; null where `missing`.

    A whole number ends in `point`, which is nothing, or ".0" as some vendors write it.
    """
    coded = pc.dictionary_encode(pa.array(units, mask=missing))
    distinct = np.asarray(coded.dictionary.to_numpy(zero_copy_only=False), np.int64)
    whole, fraction = (pa.array(part).cast(pa.string()) for part in np.divmod(distinct, UNIT))
    digits = pc.utf8_rtrim(pc.utf8_lpad(fraction, DIGITS, padding="0"), "0")
    decimals = pc.binary_join_element_wise(whole, digits, ".")
    text = pc.if_else(pc.equal(digits, ""), pc.binary_join_element_wise(whole, point, ""), decimals)
    return text.take(coded.indices)


def _asx_trades(rng: np.random.Generator, rows: int, market: Market) -> bytes:
    feed = Feed.make(rng, rows, symbols=1, days=len(ASX_DAYS), hours=ASX_HOURS)
    buys = (rng.random(feed.events) < 0.5)[feed.leads]
    off = rng.random(feed.events) < OFF
    prices = market.trade_prices(rng, feed, buys=buys, off=off)
    unnamed = (rng.random(feed.events) >= 0.003) | off
    columns = {
        **_asx_times(feed),
        "Price": decimal_text(prices, point=".0"),
        "Volume": decimal_text(market.sizes(rng, feed) * np.where(off, 100, 1)),
        "Qualifiers": _conditions(rng, off, ("0", "25", "2", "27", "5", "8", "26")),
        "Venue": pa.array(["", "X"]).take(pa.array(off.astype(np.int8))),
        "BuyerID": decimal_text(prices, missing=unnamed, point=".0"),
    }
    return _csv(columns, feed.places, header=False).replace(b"\n", b"\r\n")


def _asx_quotes(rng: np.random.Generator, rows: int, market: Market) -> bytes:
    feed = Feed.make(rng, rows, symbols=1, days=len(ASX_DAYS), hours=ASX_HOURS)
    book = Book.make(rng, feed, market)
    columns = {
        **_asx_times(feed),
        "Bid": decimal_text(np.where(book.no_bid, 0, book.bids), point=".0"),
        "Ask": decimal_text(np.where(book.no_ask, 0, book.asks), point=".0"),
        "BidVolume": decimal_text(np.where(book.no_bid, 0, market.sizes(rng, feed))),
        "AskVolume": decimal_text(np.where(book.no_ask, 0, market.sizes(rng, feed))),
    }
    return _csv(columns, feed.places, header=False).replace(b"\n", b"\r\n")


def _asx_times(feed: Feed) -> dict[str, Column]:
    days, within = np.divmod(feed.clock, feed.session_ns)
    millis = ((feed.open_ns + within) // 1_000_000).astype(np.int32)
    return {
        "Date": pa.array(ASX_DAYS).take(pa.array(days)),
        "Time": pa.array(millis).cast(pa.time32("ms")).cast(pa.string()),
    }


def _waves(rng: np.random.Generator, symbols: int) -> Sequence[tuple[Integers, Integers, Integers]]:
    seconds = ((5_000, 9_000, 200), (600, 1_500, 60), (60, 200, 12))
    billion = 10**9
    return [
        (
            rng.integers(shortest, longest, symbols) * billion,
            rng.integers(0, longest * billion, symbols),
            rng.integers(highest // 4, highest, symbols),
        )
        for shortest, longest, highest in seconds
    ]


def _delays(rng: np.random.Generator, events: int) -> Integers:
    # Clocks disagree: a few rows are received before they happen.
    delays = rng.integers(20_000, 900_000, events)
    return np.where(rng.random(events) < EARLY, -delays, delays)


def _sides(rng: np.random.Generator, buys: Mask) -> Column:
    drawn = rng.random(len(buys))
    words = np.select([drawn < 0.03, drawn < 0.06, buys], [0, np.where(buys, 1, 3), 1], 2)
    return pa.array(["", "buy", "sell", "sell_short"]).take(pa.array(words))


def _conditions(rng: np.random.Generator, off: Mask, regular: Sequence[str]) -> Column:
    usual = np.searchsorted([0.85, 0.94, 0.97, 0.98, 0.99, 0.995], rng.random(len(off)), side="right")
    unusual = len(regular) + rng.integers(0, len(OFF_MARKET), len(off))
    return pa.array([*regular, *OFF_MARKET]).take(pa.array(np.where(off, unusual, usual)))


def _ids(prefix: str, events: int) -> Column:
    numbers = pa.array(np.arange(1, events + 1)).cast(pa.string())
    return pc.binary_join_element_wise(prefix, numbers, "")


def _constant(value: str, events: int) -> Column:
    return pa.repeat(value, events)


def _whole(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)


def _csv(columns: Mapping[str, Any], places: Integers, *, header: bool = True) -> bytes:
    table = pa.table(dict(columns)).take(pa.array(places))
    out = pa.BufferOutputStream()
    if header:
        out.write((",".join(columns) + "\n").encode())
    pacsv.write_csv(table, out, pacsv.WriteOptions(include_header=False, quoting_style="none"))
    text: bytes = out.getvalue().to_pybytes()
    return text
