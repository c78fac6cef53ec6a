"""The columns of a dataset from the columns of a file, by the layout's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column, arrow_schema_of
from k2common.layouts import cells as read
from k2common.layouts.checks import GIVEN, QUOTE_SIDES, symbols_of
from k2common.layouts.faults import INSTRUMENT_UNKNOWN, QUOTE_EMPTY, VALUE_MISSING, VALUE_UNKNOWN, Mask
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import AssetClass, Layout
from k2common.layouts.reading import Cells
from k2common.layouts.rules import (
    Choice,
    Constant,
    Day,
    FileName,
    Instrument,
    Integer,
    Number,
    Rule,
    Text,
    Time,
    Words,
)
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import DATASETS

FLAG_NO_EVENT_TIME = 1
FLAG_RECEIVED_BEFORE_EVENT = 2
FLAG_CROSSED = 4
FLAG_LOCKED = 8
FLAG_ONE_SIDED = 16
FLAG_OFF_MARKET = 32

MAP = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))
LIST = pa.list_(pa.field("item", pa.string(), nullable=False))
MICROS = pa.timestamp("us", "UTC")
ASSET_CLASSES = frozenset(get_args(AssetClass))


def constant(value: Any, kind: Any, rows: int) -> Column:
    """The same value in every row, kept once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value], kind))


class Mapper:
    """Maps the cells of one chunk; faults go into the cells' own."""

    def __init__(
        self, *, cells: Cells, layout: Layout, spec: UploadSpec, instruments: InstrumentIndex | None
    ) -> None:
        self._cells = cells
        self._faults = cells.faults
        self._layout = layout
        self._spec = spec
        self._instruments = instruments
        self._zone = read.Zone(name=spec.timezone or layout.timezone, ambiguous=layout.ambiguous_times)
        self._names = frozenset(arrow_schema_of(DATASETS[layout.dataset].topic.schema).names)

    def columns(self) -> dict[str, Column]:
        """Every column of the dataset but `line`; one that the layout has no rule for is left out."""
        rows = self._cells.rows
        result = {
            "upload_id": constant(self._spec.upload_id, pa.string(), rows),
            "source": constant(self._spec.source, pa.string(), rows),
            "ts_ingest": constant(self._spec.received_at, MICROS, rows),
            "attributes": self._attributes(),
        }
        flags = np.zeros(rows, np.int32)
        if "ts_event_ns" in self._names:
            result |= self._times(flags)
        if "conditions" in self._names:
            result["conditions"] = constant([], LIST, rows)
        if "side" in self._names:
            result["side"] = constant("unknown", pa.string(), rows)
        for target, rule in self._layout.fields.items():
            if target not in GIVEN and not isinstance(rule, Time):
                column = self._target(target, rule)
                if column is not None:
                    result[target] = self._known(target, rule, column)
                elif self._layout.requires(target):
                    self._mark_missing(target)
        for target in GIVEN:
            result[target] = self._given(target, self._layout.fields.get(target), result)
        self._require_side(result)
        if "flags" in self._names:
            self._flag(result, flags)
            result["flags"] = pa.array(flags) if flags.any() else constant(0, pa.int32(), rows)
        return result

    def _require_side(self, columns: Mapping[str, Column]) -> None:
        if self._layout.dataset != "quotes":
            return
        empty = np.ones(self._cells.rows, bool)
        for side in QUOTE_SIDES:
            if side in columns:
                empty &= read.true_where(columns[side].is_null())
        message = f"the quote has neither a {' nor an '.join(QUOTE_SIDES)}"
        self._faults.mark(empty, code=QUOTE_EMPTY, column=None, message=message)

    def _target(self, target: str, rule: Rule) -> Column | None:
        if isinstance(rule, (Constant, FileName)):
            value = self._fixed(rule)
            return None if value is None else constant(value, pa.string(), self._cells.rows)
        if isinstance(rule, (Time, Instrument)) or rule.column not in self._cells.columns:
            return None
        cells = self._cells.columns[rule.column]
        if isinstance(rule, Choice):
            return self._choice(cells, rule)
        if isinstance(rule, Words):
            return _words(cells, rule.separator)
        cells = read.plain(read.without(cells, rule.nulls))
        required = self._layout.requires(target)
        if isinstance(rule, Number):
            return read.decimals(cells, rule, self._faults, required=required)
        values = self._simple(cells, rule)
        if required:
            read.require(values, rule.column, self._faults)
        return values

    def _simple(self, cells: Column, rule: Text | Integer | Day) -> Column:
        if isinstance(rule, Integer):
            return read.integers(cells, rule.column, self._faults, nulls=rule.nulls)
        if isinstance(rule, Day):
            return read.dates(cells, rule.column, rule.format, self._faults)
        return read.text(cells)

    def _known(self, target: str, rule: Rule, column: Column) -> Column:
        """Refuse words that an enum column does not have; a rule of kind enum has none of these."""
        allowed = symbols_of(self._layout.dataset, target)
        if allowed is None or isinstance(rule, Choice):
            return column
        if target == "side":
            column = pc.fill_null(read.plain(column), "unknown")
        coded = _coded(column)
        self._unknown(_where(coded, lambda value: value is not None and value not in allowed), target)
        return coded

    def _mark_missing(self, target: str) -> None:
        everywhere = np.ones(self._cells.rows, bool)
        self._faults.mark(everywhere, code=VALUE_MISSING, column=target, message=f"{target} is empty")

    def _fixed(self, rule: Constant | FileName) -> str | None:
        return rule.value if isinstance(rule, Constant) else rule.value(self._spec.filename)

    def _given(self, target: str, rule: Rule | None, done: dict[str, Column]) -> Column:
        rows = self._cells.rows
        default = getattr(self._spec, target) or getattr(self._layout, target, None)
        if isinstance(rule, Text) and rule.column in self._cells.columns:
            empty: dict[str | None, str | None] = dict.fromkeys(("", *rule.nulls), default)
            coded = _recoded(self._cells.columns[rule.column], empty)
        elif isinstance(rule, Choice) and rule.column in self._cells.columns:
            coded = self._choice(self._cells.columns[rule.column], rule)
        elif isinstance(rule, Instrument) and default is None:
            return self._by_instrument(rule, done)
        elif isinstance(rule, (Constant, FileName)) and default is None:
            coded = constant(self._fixed(rule), pa.string(), rows)
        else:
            coded = constant(default, pa.string(), rows)
        if target == "asset_class":
            coded = _recoded(coded, {None: "other"})
            self._unknown(_where(coded, lambda value: value not in ASSET_CLASSES), target)
        elif target != "currency":
            self._faults.mark(
                _where(coded, lambda value: value is None),
                code=VALUE_MISSING,
                column=target,
                message=f"{target} is empty",
            )
        return coded

    def _by_instrument(self, rule: Instrument, done: dict[str, Column]) -> Column:
        venue, dates = self._spec.venue or self._layout.venue, done.get("trading_date", done.get("ex_date"))
        if rule.column is None:
            ids = constant(self._spec.stem, pa.string(), self._cells.rows)
        elif rule.column not in self._cells.columns:
            ids = constant(None, pa.string(), self._cells.rows)
        else:
            ids = _recoded(self._cells.columns[rule.column], {"": None})
        if self._instruments is None or not venue or dates is None:
            symbols = constant(None, pa.string(), self._cells.rows)
        else:
            symbols = self._instruments.symbols(venue, ids, dates)
        if rule.unknown == "keep":
            return pc.dictionary_encode(pc.coalesce(read.plain(symbols), read.plain(ids)))
        unknown = _where(symbols, lambda symbol: symbol is None)
        which = f"{self._spec.stem!r}" if rule.column is None else f"of {rule.column}"
        message = f"no instrument {which} of {venue} is known on that date"
        self._faults.mark(unknown, code=INSTRUMENT_UNKNOWN, column="symbol", message=message)
        return symbols

    def _times(self, flags: npt.NDArray[np.int32]) -> dict[str, Column]:
        received, event = self._time("ts_recv"), self._time("ts_event")
        if event is None and received is None:
            event = pa.nulls(self._cells.rows, pa.int64())
        elif event is None:
            event = received
            flags |= FLAG_NO_EVENT_TIME
        elif received is not None:
            flags[read.true_where(event.is_null())] |= FLAG_NO_EVENT_TIME
            flags[read.true_where(pc.less(received, event))] |= FLAG_RECEIVED_BEFORE_EVENT
            event = pc.coalesce(event, received)
        read.require(event, "ts_event", self._faults)
        micros = _floor_micros(event)
        local = pc.local_timestamp(micros.cast(pa.timestamp("us", self._layout.timezone)))
        days = local.cast(pa.date32())
        result = {"ts_event": micros, "ts_event_ns": event, "trading_date": pc.dictionary_encode(days)}
        return result if received is None else {**result, "ts_recv_ns": received}

    def _time(self, target: str) -> Column | None:
        rule = self._layout.fields.get(target)
        if not isinstance(rule, Time):
            return None
        for way in rule.ways:
            if all(column in self._cells.columns for column in way.columns):
                columns = [
                    read.plain(read.without(self._cells.columns[column], rule.nulls))
                    for column in way.columns
                ]
                values = read.times(columns, way, self._zone, self._faults, nulls=rule.nulls)
                bounds = {"first": self._layout.plausible_from, "end": self._layout.plausible_to}
                read.plausible(values, way.columns[-1], self._faults, **bounds)
                return values
        return None

    def _choice(self, cells: Column, rule: Choice) -> Column:
        coded = _coded(cells)
        words = [word.strip().lower() for word in coded.dictionary.to_pylist()]
        values = pa.array([rule.values.get(word) if word else rule.default for word in words], pa.string())
        chosen = pa.DictionaryArray.from_arrays(coded.indices, values)
        self._unknown(_where(chosen, lambda value: value is None), rule.column)
        return chosen

    def _unknown(self, rows: Mask, column: str) -> None:
        message = f"{column} is none of the values that are known"
        self._faults.mark(rows, code=VALUE_UNKNOWN, column=column, message=message)

    def _attributes(self) -> Column:
        rows = self._cells.rows
        wanted = self._layout.attributes
        if self._layout.unknown_columns == "attributes":
            ruled = set(self._layout.ruled_columns())
            wanted = (*wanted, *(name for name in self._cells.columns if name not in ruled))
        names = [name for name in wanted if name in self._cells.columns]
        columns = [_text(self._cells.columns[name]) for name in names]
        filled = [read.true_where(pc.not_equal(column, "")) for column in columns]
        if not any(mask.any() for mask in filled):
            return constant([], MAP, rows)
        at_row, at_column = np.nonzero(np.stack(filled, axis=1))
        offsets = np.concatenate([[0], np.cumsum(np.sum(filled, axis=0))]).astype(np.int32)
        keys = pa.array(names, pa.string()).take(pa.array(at_column))
        values = pa.concat_arrays(columns).take(pa.array(at_column * rows + at_row))
        return pa.MapArray.from_arrays(pa.array(offsets), keys, values, type=MAP)

    def _flag(self, columns: dict[str, Column], flags: npt.NDArray[np.int32]) -> None:
        if self._layout.dataset == "quotes":
            bid, ask = columns.get("bid_price"), columns.get("ask_price")
            if bid is not None and ask is not None:
                flags[read.true_where(pc.greater(bid, ask))] |= FLAG_CROSSED
                flags[read.true_where(pc.equal(bid, ask))] |= FLAG_LOCKED
                flags[read.true_where(pc.or_(bid.is_null(), ask.is_null()))] |= FLAG_ONE_SIDED
        off_market = self._layout.off_market
        conditions = columns["conditions"]
        marked = [
            not off_market.conditions or set(off_market.conditions).isdisjoint(words or ())
            for words in conditions.dictionary.to_pylist()
        ]
        flags[~np.array(marked, bool)[conditions.indices.to_numpy()]] |= FLAG_OFF_MARKET
        for name, values in off_market.columns.items():
            if name in self._cells.columns:
                hit = pc.is_in(self._cells.columns[name], value_set=pa.array(values, pa.string()))
                flags[read.true_where(hit)] |= FLAG_OFF_MARKET


def _text(cells: Column) -> Column:
    values = read.plain(cells)
    # A column of which a rule wants numbers may be an attribute as well.
    return values if pa.types.is_string(values.type) else pc.fill_null(values.cast(pa.string()), "")


def _coded(cells: Column) -> Column:
    return cells if pa.types.is_dictionary(cells.type) else pc.dictionary_encode(cells)


def _recoded(cells: Column, other: Mapping[str | None, str | None]) -> Column:
    """The cells by their few values, some of them replaced; the codes stay as they are."""
    coded = _coded(cells)
    values = [other.get(value, value) for value in coded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(coded.indices, pa.array(values, pa.string()))


def _where(coded: Column, condition: Callable[[str | None], bool]) -> Mask:
    """The rows whose value fulfils the condition, asked once per value."""
    values = coded.dictionary.to_pylist()
    fulfilled = np.array([condition(value) for value in (*values, None)], bool)
    if not fulfilled[:-1].any() and not coded.indices.null_count:
        return np.zeros(len(coded), bool)
    found: Mask = fulfilled[pc.fill_null(coded.indices, len(values)).to_numpy()]
    return found


def _words(cells: Column, separator: str | None) -> Column:
    coded = _coded(cells)
    lists = [_split(cell, separator) for cell in coded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(coded.indices, pa.array(lists, LIST))


def _split(cell: str, separator: str | None) -> list[str]:
    words = [cell] if separator is None else cell.split(separator)
    return [word for word in words if word]


def _floor_micros(nanoseconds: Column) -> Column:
    # Division rounds towards 0, a time before 1970 has to go down.
    values = np.asarray(pc.fill_null(nanoseconds, 0).to_numpy(zero_copy_only=False), np.int64)
    micros = pa.array(values // 1000)
    if nanoseconds.null_count:
        micros = pc.if_else(nanoseconds.is_valid(), micros, pa.scalar(None, pa.int64()))
    return micros.cast(MICROS)
