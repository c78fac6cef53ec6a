"""What is wrong with a layout beyond its form, each fault with its JSON pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from k2common.columnar.arrow import arrow_schema_of
from k2common.errors import RecordError
from k2common.layouts.day_formats import format_fault
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
    columns_of,
)
from k2common.layouts.zones import known_zone
from k2common.schemas.datasets import DATASETS, avro_schema

if TYPE_CHECKING:
    from k2common.layouts.model import Layout

TIMES = ("ts_event", "ts_recv")
QUOTE_SIDES = ("bid_price", "ask_price")
"""A quote has at least one of them."""
GIVEN = ("symbol", "venue", "asset_class", "currency")
"""Columns that an upload's parameters or the layout may give for all rows."""
FILLED = frozenset(
    {
        *("upload_id", "line", "source", "ts_ingest", "attributes", "flags"),
        *("ts_event", "ts_event_ns", "ts_recv_ns", "trading_date", "side", "conditions"),
    }
)
"""Columns that never lack a value, whatever the file holds."""
NO_TARGETS = FILLED - {"side", "conditions"}
WORDS: tuple[type[Any], ...] = (Text, Choice, Constant, FileName)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutFault:
    """One fault; `pointer` is empty where it is of the whole."""

    pointer: str
    message: str


class LayoutError(RecordError):
    """A layout that cannot be used."""

    def __init__(self, faults: Sequence[LayoutFault]) -> None:
        said = "; ".join(f"{f.pointer or 'the layout'}: {f.message}" for f in faults)
        super().__init__(f"the layout is not valid: {said}")
        self.faults = faults


def pointer(location: Sequence[str | int], document: Any) -> str:
    """The JSON pointer of a place that pydantic names; its tags of unions are no part of the document."""
    parts = []
    last = len(location) - 1
    for at, part in enumerate(location):
        known = (isinstance(document, dict) and part in document) or (
            isinstance(document, list) and isinstance(part, int) and part < len(document)
        )
        if known:
            document = document[part]
        elif at < last or (isinstance(document, dict) and document.get("kind") == part):
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


@cache
def target_types(dataset: str) -> Mapping[str, Any]:
    """The dataset's columns that a rule may fill, and their Arrow types."""
    schema = arrow_schema_of(DATASETS[dataset].topic.schema)
    types: dict[str, Any] = {field.name: field.type for field in schema if field.name not in NO_TARGETS}
    return types | {name: pa.int64() for name in TIMES if f"{name}_ns" in {field.name for field in schema}}


@cache
def required_targets(dataset: str) -> frozenset[str]:
    """The columns that a row must have and that nothing but a rule, a parameter or the layout gives."""
    schema = arrow_schema_of(DATASETS[dataset].topic.schema)
    return frozenset(field.name for field in schema if not field.nullable) - FILLED - {"asset_class"}


def faults_of(layout: Layout) -> list[LayoutFault]:
    """Every fault of a layout whose form is right."""
    return [*_zone(layout), *_targets(layout), *_missing(layout), *_columns(layout)]


def _zone(layout: Layout) -> Iterator[LayoutFault]:
    try:
        known_zone(layout.timezone)
    except ValueError as error:
        yield LayoutFault(pointer="/timezone", message=str(error))


def _targets(layout: Layout) -> Iterator[LayoutFault]:
    types = target_types(layout.dataset)
    for target, rule in layout.fields.items():
        if target not in types:
            known = ", ".join(sorted(types))
            yield LayoutFault(pointer=f"/fields/{target}", message=f"no column of {layout.dataset}: {known}")
        elif not isinstance(rule, _kinds(target, types[target], layout.dataset)):
            message = f"a rule of kind {rule.kind} cannot fill {target}"
            yield LayoutFault(pointer=f"/fields/{target}/kind", message=message)
        else:
            yield from _rule(layout.dataset, target, rule)


def _rule(dataset: str, target: str, rule: Rule) -> Iterator[LayoutFault]:
    if isinstance(rule, (Choice, Constant)):
        yield from _values(dataset, target, rule)
    if isinstance(rule, Words) and rule.separator == "":
        message = "a cell cannot be split at nothing; without a separator the cell is one word"
        yield LayoutFault(pointer=f"/fields/{target}/separator", message=message)
    if isinstance(rule, Day) and (fault := format_fault(rule.format)):
        yield LayoutFault(pointer=f"/fields/{target}/format", message=fault)
    for at, way in enumerate(rule.ways if isinstance(rule, Time) else ()):
        if way.format == "date_time" and (fault := format_fault(way.date_format)):
            yield LayoutFault(pointer=f"/fields/{target}/ways/{at}/date_format", message=fault)


def _kinds(target: str, kind: Any, dataset: str) -> tuple[type[Any], ...]:
    if target in TIMES:
        return (Time,)
    if target == "symbol" and dataset != "instruments":
        return (*WORDS, Instrument)
    if pa.types.is_decimal(kind):
        return (Number,)
    if pa.types.is_integer(kind):
        return (Integer,)
    if pa.types.is_date(kind):
        return (Day,)
    return (Words,) if pa.types.is_list(kind) else WORDS


def _values(dataset: str, target: str, rule: Choice | Constant) -> Iterator[LayoutFault]:
    allowed = symbols_of(dataset, target)
    named = [("value", rule.value)] if isinstance(rule, Constant) else [("default", rule.default)]
    if isinstance(rule, Choice):
        named = [*((f"values/{word}", value) for word, value in rule.values.items()), *named]
    for name, value in named:
        if allowed is not None and value not in allowed:
            message = f"{value!r} is none of {', '.join(allowed)}"
            yield LayoutFault(pointer=f"/fields/{target}/{name}", message=message)


@cache
def symbols_of(dataset: str, target: str) -> Sequence[str] | None:
    """The values that an enum column may have; None for a column that is no enum."""
    fields = {field["name"]: field["type"] for field in avro_schema(DATASETS[dataset].topic.schema)["fields"]}
    kind = fields[target]
    symbols: Sequence[str] | None = kind.get("symbols") if isinstance(kind, dict) else None
    return symbols


def _missing(layout: Layout) -> Iterator[LayoutFault]:
    for target in sorted(required_targets(layout.dataset) - layout.fields.keys() - set(GIVEN)):
        yield LayoutFault(pointer="/fields", message=f"nothing gives {target}, which {layout.dataset} need")
    times = set(TIMES) & target_types(layout.dataset).keys()
    if times and not times & layout.fields.keys():
        yield LayoutFault(pointer="/fields", message="nothing gives a time")
    if layout.dataset == "quotes" and not set(QUOTE_SIDES) & layout.fields.keys():
        yield LayoutFault(pointer="/fields", message=f"nothing gives a {' or '.join(QUOTE_SIDES)}")


def _columns(layout: Layout) -> Iterator[LayoutFault]:
    if layout.header:
        if layout.columns:
            yield LayoutFault(pointer="/columns", message="a file with a header names its own columns")
        return
    if not layout.columns:
        yield LayoutFault(
            pointer="/columns", message="a file without a header needs the names of its columns"
        )
    if len(set(layout.columns)) < len(layout.columns):
        yield LayoutFault(pointer="/columns", message="a name stands twice")
    named = [(f"/fields/{target}", columns_of(rule)) for target, rule in layout.fields.items()]
    named += [(f"/{place}", tuple(names)) for place, names in _other_names(layout)]
    for place, names in named:
        for name in names:
            if name not in layout.columns:
                yield LayoutFault(pointer=place, message=f"{name!r} is none of the columns")


def _other_names(layout: Layout) -> Sequence[tuple[str, Sequence[str]]]:
    return (
        ("where", tuple(layout.where)),
        ("attributes", layout.attributes),
        ("off_market/columns", tuple(layout.off_market.columns)),
    )
