"""The statement behind bars: trades are placed in bars, added up, adjusted, and empty bars filled in.

Names are the code's own; every value is a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql

from query_service.answers.decimals import mean_by_size, mean_over_time, notional_sums, scaled, units
from query_service.bars.adjustments import Segment
from query_service.bars.bar_boundaries import Piece
from query_service.bars.timeframes import Span, Threshold, Timeframe
from query_service.trades.conditions import Rule

Fill: TypeAlias = Literal["none", "null", "prev", "zero"]
DAY_NS = 86_400 * 10**9
ORDER = "ts_event_ns, sequence NULLS LAST, upload_id, line"
"""The total order within a symbol of a venue."""

BAR_ORDER = ("bar_ns", "venue", "symbol", "number")
PRICES = ("open", "high", "low", "close", "vwap", "twap")
BAR = "symbol, venue, bar_ns, number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A symbol of a venue with what all its bars have; bars are filled within [from_ns, until_ns).

    `before` is the close with which filling begins.
    """

    symbol: str
    venue: str
    source: str
    asset_class: str
    currency: str | None
    from_ns: int
    until_ns: int
    before: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one statement is asked for: the bars that begin in the pieces.

    `wide` adds up price times size in parts, for sums from 10^14 on. `twap` says whether it is wanted.
    """

    timeframe: Timeframe
    vendor: bool
    scan: Scan
    wanted: Filter
    rule: Rule
    pieces: Sequence[Piece]
    series: Sequence[Series]
    segments: Sequence[Segment]
    fill: Fill
    twap: bool
    wide: bool = False


def bars_sql(job: Job, parameters: Parameters) -> str:
    """A statement for the bars: BAR_ORDER, bar_end_ns, PRICES, volume, trade_count, and what Series says."""
    steps = [("series", _series(job.series, parameters)), ("pieces", _pieces(job.pieces, parameters))]
    steps.append(("kept", _kept(job, parameters)))
    if job.segments:
        steps.append(("segments", _segments(job.segments, parameters)))
    steps += _of_vendor(job, parameters) if job.vendor else _of_trades(job, parameters)
    steps += _adjusted() if job.segments else [("bars", "SELECT * FROM parts")]
    if job.fill != "none" and isinstance(job.timeframe, Span):
        steps += _filled(job.timeframe, job.fill, parameters)
    else:
        steps.append(("filled", "SELECT bars.*, false AS is_filled FROM bars"))
    text = ", ".join(f"{name} AS ({step})" for name, step in steps)
    return f"""WITH {text}
        SELECT filled.*, source, asset_class, currency FROM filled JOIN series USING (symbol, venue)"""


def _series(series: Sequence[Series], parameters: Parameters) -> str:
    columns = {
        "symbol": "VARCHAR",
        "venue": "VARCHAR",
        "source": "VARCHAR",
        "asset_class": "VARCHAR",
        "currency": "VARCHAR",
        "from_ns": "BIGINT",
        "until_ns": "BIGINT",
        "before": "DECIMAL(28, 12)",
    }
    return _relation(series, columns, parameters)


def _pieces(pieces: Sequence[Piece], parameters: Parameters) -> str:
    columns = dict.fromkeys(("first_ns", "end_ns", "anchor_ns", "stop_ns"), "BIGINT")
    found = _relation(pieces, {"venue": "VARCHAR", **columns}, parameters)
    days = f"range({_day('first_ns')}, {_day('(end_ns - 1)')} + 1)"
    return f"SELECT *, unnest({days}) AS day FROM ({found})"


def _segments(segments: Sequence[Segment], parameters: Parameters) -> str:
    factors = ("price_above", "price_below", "volume_above", "volume_below")
    columns = {
        "symbol": "VARCHAR",
        "venue": "VARCHAR",
        "segment": "BIGINT",
        "first_day": "DATE",
        "end_day": "DATE",
        **dict.fromkeys(factors, "HUGEINT"),
    }
    return _relation(segments, columns, parameters)


def _relation(rows: Sequence[Any], columns: dict[str, str], parameters: Parameters) -> str:
    """The attributes of the rows as columns."""
    parts = []
    for name, kind in columns.items():
        # As text: it has a form for every number of digits.
        values = [_text(getattr(row, name)) for row in rows]
        parts.append(f"CAST(unnest({parameters.bind(values)}::VARCHAR[]) AS {kind}) AS {name}")
    return f"SELECT {', '.join(parts)}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _kept(job: Job, parameters: Parameters) -> str:
    rows = rows_sql([job.scan], job.wanted, parameters)
    return f"SELECT * FROM ({rows}) WHERE {job.rule.sql(parameters)}"


def _day(ns: str) -> str:
    """The day since 1970, also before."""
    return f"(({ns} - (({ns} % {DAY_NS}) + {DAY_NS}) % {DAY_NS}) // {DAY_NS})"


def _of_trades(job: Job, parameters: Parameters) -> list[tuple[str, str]]:
    segment, join = _segment(job)
    placed = f"""
        SELECT kept.symbol, kept.venue, ts_event_ns, sequence, upload_id, line, price, size,
            stop_ns, anchor_ns, {_place(job.timeframe)}, {segment} AS segment
        FROM kept
        JOIN pieces ON pieces.venue = kept.venue AND day = {_day("ts_event_ns")}
            AND ts_event_ns >= first_ns AND ts_event_ns < end_ns {join}"""
    steps = [("placed", placed)]
    if isinstance(job.timeframe, Threshold):
        steps.append(("numbered", _numbered(job.timeframe, parameters)))
    else:
        steps.append(("numbered", "SELECT *, 0::HUGEINT AS number FROM placed"))
    held = f"lead(ts_event_ns) OVER (PARTITION BY {BAR} ORDER BY {ORDER}) - ts_event_ns"
    timed = f"coalesce({held}, 0)" if job.twap else "0"
    steps.append(("timed", f"SELECT *, {timed} AS held FROM numbered"))
    steps.append(("sums", _sums(job)))
    twap = f"coalesce({mean_over_time('price_time', 'held')}, close)" if job.twap else "NULL::DECIMAL(28, 12)"
    # A threshold's bars are grouped by their day until here.
    start, end = ("first_ns", "last_ns") if isinstance(job.timeframe, Threshold) else ("bar_ns", "end_ns")
    parts = f"""
        SELECT symbol, venue, {start} AS bar_ns, number, {end} AS bar_end_ns, segment, open, high, low, close,
            volume, {mean_by_size("volume", wide=job.wide)}, {twap} AS twap, held, trade_count
        FROM sums"""
    columns = f"{BAR}, bar_end_ns, segment, {', '.join(PRICES)}, volume, held, trade_count"
    return [*steps, ("parts", f"SELECT {columns} FROM ({parts})")]


def _place(timeframe: Timeframe) -> str:
    width = timeframe.width_ns if isinstance(timeframe, Span) else None
    if width is None:
        return "anchor_ns AS bar_ns, stop_ns AS end_ns"
    start = f"anchor_ns + (ts_event_ns - anchor_ns) // {width} * {width}"
    return f"{start} AS bar_ns, least({start} + {width}, stop_ns) AS end_ns"


def _segment(job: Job) -> tuple[str, str]:
    if not job.segments:
        return "0", ""
    join = """LEFT JOIN segments ON segments.symbol = kept.symbol AND segments.venue = kept.venue
        AND trading_date >= first_day AND trading_date < end_day"""
    return "coalesce(segment, 0)", join


def _numbered(threshold: Threshold, parameters: Parameters) -> str:
    """A trade belongs to the bar that the sum before it names, counted again each day."""
    measure = {"tick": "1", "volume": "size", "dollar": "abs(price * size)"}[threshold.measure]
    digits = {"tick": 0, "volume": 12, "dollar": 24}[threshold.measure]
    window = f"PARTITION BY symbol, venue, anchor_ns ORDER BY {ORDER} ROWS UNBOUNDED PRECEDING"
    before = f"sum({measure}) OVER ({window}) - {measure}"
    counted = f"({before})::HUGEINT" if threshold.measure == "tick" else units(f"({before})")
    step = parameters.bind(str(int(threshold.amount.scaleb(digits))))
    return f"SELECT *, {counted} // {step}::HUGEINT AS number FROM placed"


def _sums(job: Job) -> str:
    times = "sum(price * held) AS price_time, sum(held) AS held," if job.twap else "0 AS held,"
    return f"""
        SELECT {BAR}, segment, min(end_ns) AS end_ns,
            min(ts_event_ns) AS first_ns, max(ts_event_ns) AS last_ns,
            first(price ORDER BY {ORDER}) AS open, max(price) AS high, min(price) AS low,
            last(price ORDER BY {ORDER}) AS close, sum(size) AS volume, {times}
            {notional_sums("price", "size", wide=job.wide)}, count(*) AS trade_count
        FROM timed GROUP BY {BAR}, segment"""


def _of_vendor(job: Job, parameters: Parameters) -> list[tuple[str, str]]:
    segment, join = _segment(job)
    spellings = parameters.bind(job.timeframe.spellings if isinstance(job.timeframe, Span) else [])
    parts = f"""
        SELECT kept.symbol, kept.venue, ts_event_ns AS bar_ns,
            row_number() OVER (
                PARTITION BY kept.symbol, kept.venue, ts_event_ns ORDER BY upload_id, line
            )::HUGEINT - 1 AS number,
            NULL::BIGINT AS bar_end_ns, {segment} AS segment, open, high, low, close, vwap,
            NULL::DECIMAL(28, 12) AS twap, volume::DECIMAL(38, 12) AS volume, 0 AS held, trade_count
        FROM kept {join}
        WHERE timeframe IN (SELECT unnest({spellings}::VARCHAR[]))"""
    return [("parts", parts)]


def _adjusted() -> list[tuple[str, str]]:
    """The parts of a bar on both sides of an ex-date are adjusted apart, then put together."""
    prices = ", ".join(f"{scaled(name, 'price_above', 'price_below')} AS {name}" for name in PRICES)
    moved = f"""
        SELECT * REPLACE ({prices}, {scaled("volume", "volume_above", "volume_below")} AS volume)
        FROM parts JOIN segments USING (symbol, venue, segment)
        UNION ALL BY NAME SELECT * FROM parts ANTI JOIN segments USING (symbol, venue, segment)"""
    several = "count(*) > 1"
    sums = f"""
        SELECT {BAR}, max(bar_end_ns) AS bar_end_ns, first(open ORDER BY segment) AS open, max(high) AS high,
            min(low) AS low, last(close ORDER BY segment) AS close, sum(volume) AS volume,
            {several} AS several, first(vwap) AS one_vwap, first(twap) AS one_twap,
            {notional_sums("vwap", "volume", wide=True)},
            sum(twap * held) AS price_time, sum(held) AS held, sum(trade_count)::BIGINT AS trade_count
        FROM moved GROUP BY {BAR}"""
    bars = f"""
        SELECT {BAR}, bar_end_ns, open, high, low, close, volume, trade_count,
            {mean_by_size("volume", wide=True)},
            coalesce({mean_over_time("price_time", "held")}, close) AS twap, one_vwap, one_twap, several
        FROM sums_of_parts"""
    columns = f"{BAR}, bar_end_ns, open, high, low, close"
    chosen = "CASE WHEN several THEN vwap ELSE one_vwap END AS vwap"
    chosen += ", CASE WHEN several THEN twap ELSE one_twap END AS twap"
    result = f"SELECT {columns}, {chosen}, volume, trade_count FROM ({bars})"
    return [("moved", moved), ("sums_of_parts", sums), ("bars", result)]


def _filled(span: Span, fill: Fill, parameters: Parameters) -> list[tuple[str, str]]:
    """Every bar that a piece touches, for each series from its first time to its last."""
    width = span.width_ns
    if width is None:
        grid = "SELECT DISTINCT venue, anchor_ns AS bar_ns, stop_ns AS end_ns FROM pieces"
    else:
        first = f"anchor_ns + (first_ns - anchor_ns) // {width} * {width}"
        starts = f"SELECT venue, stop_ns, unnest(range({first}, end_ns, {width})) AS bar_ns FROM pieces"
        grid = f"SELECT DISTINCT venue, bar_ns, least(bar_ns + {width}, stop_ns) AS end_ns FROM ({starts})"
    wanted = f"""
        SELECT symbol, venue, bar_ns, end_ns, before FROM ({grid}) JOIN series USING (venue)
        WHERE end_ns > from_ns AND bar_ns < until_ns"""
    window = "PARTITION BY symbol, venue ORDER BY bar_ns ROWS UNBOUNDED PRECEDING"
    latest = f"coalesce(last_value(close IGNORE NULLS) OVER ({window}), before)"
    price = {"null": "NULL", "zero": "0", "prev": latest}[fill]
    amount = "NULL" if fill == "null" else "0"
    prices = ", ".join(f"CASE WHEN empty THEN {price} ELSE {name} END AS {name}" for name in PRICES)
    joined = f"""
        SELECT symbol, venue, bar_ns, 0::HUGEINT AS number, end_ns AS bar_end_ns, {", ".join(PRICES)}, volume,
            trade_count, before, trade_count IS NULL AS empty
        FROM ({wanted}) LEFT JOIN bars USING (symbol, venue, bar_ns)"""
    filled = f"""
        SELECT {BAR}, bar_end_ns, {prices}, CASE WHEN empty THEN {amount} ELSE volume END AS volume,
            CASE WHEN empty THEN {amount} ELSE trade_count END AS trade_count, empty AS is_filled
        FROM ({joined})"""
    del parameters
    return [("filled", filled)]
