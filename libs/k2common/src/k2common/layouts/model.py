"""A layout says how the columns of a vendor's file become the columns of a dataset; it is data, not code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from k2common.errors import RecordError

TimeFormat = Literal["epoch_ns", "epoch_us", "epoch_ms", "iso", "date_time"]
AssetClass = Literal["equity", "crypto", "future", "option", "fx", "index", "other"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Part):
    """The cell as it is; an empty one is null."""

    kind: Literal["text"]
    column: str
    required: bool = False


class Number(_Part):
    """An exact decimal with up to 16 digits before and 12 after the point."""

    kind: Literal["decimal"]
    column: str
    required: bool = False
    zero_is_null: bool = False
    negative: bool = False


class Integer(_Part):
    """A 64-bit integer."""

    kind: Literal["integer"]
    column: str
    required: bool = False


class Choice(_Part):
    """One of a few values; `values` maps the file's words, in lower case, to the dataset's."""

    kind: Literal["enum"]
    column: str
    values: Mapping[str, str]
    default: str


class Words(_Part):
    """A list: the cell split at `separator`, or the whole cell where there is none."""

    kind: Literal["list"]
    column: str
    separator: str | None = None


class Day(_Part):
    """A date, in a format of strptime."""

    kind: Literal["date"]
    column: str
    format: str = "%Y-%m-%d"
    required: bool = False


class Moment(_Part):
    """One way to read a time: an integer since 1970, ISO 8601, or a date and a time of day side by side."""

    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    format: TimeFormat
    date_format: str = "%Y-%m-%d"


class Time(_Part):
    """The first of these ways whose columns the file has."""

    kind: Literal["time"]
    ways: Annotated[tuple[Moment, ...], Field(min_length=1)]


class Instrument(_Part):
    """The symbol by reference data: the file's name is the instrument's id."""

    kind: Literal["instrument"]


Rule = Annotated[
    Text | Number | Integer | Choice | Words | Day | Time | Instrument, Field(discriminator="kind")
]


class OffMarket(_Part):
    """Prints that bars and summaries leave out when asked: by condition, or by the value of a column."""

    conditions: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


class Layout(_Part):
    """How one kind of file is read.

    `columns` are the file's columns in their order where it has no header. `timezone` is the zone of times
    that name none, and of the trading date. Times outside `plausible_from` and `plausible_to` are refused.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = Field(min_length=1)
    dataset: Literal["trades", "quotes", "instruments"]
    header: bool
    columns: tuple[str, ...] = ()
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    timezone: str = "UTC"
    source: str | None = None
    venue: str | None = None
    asset_class: AssetClass | None = None
    currency: str | None = None
    fields: Mapping[str, Rule]
    attributes: tuple[str, ...] | Literal["others"] = ()
    off_market: OffMarket = OffMarket()
    ignore_lines: tuple[str, ...] = ()
    plausible_from: date = date(1980, 1, 1)
    plausible_to: date = date(2100, 1, 1)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        return known_zone(zone)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The layout in a JSON text.

        Raises RecordError that says what is wrong and where.
        """
        layout: Self = _parsed(cls, text)
        return layout

    @property
    def canonical_json(self) -> str:
        """One text for equal layouts; it is part of an upload's identity."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def needed_columns(self) -> Sequence[str]:
        """Columns without which no row could be accepted, for layouts with a header."""
        needed = [
            rule.column
            for rule in self.fields.values()
            if isinstance(rule, (Text, Number, Integer, Day)) and rule.required
        ]
        return list(dict.fromkeys(needed))

    def known_columns(self) -> Sequence[str]:
        """Every column of the file that a rule or the attributes name."""
        known = list(self.columns)
        for rule in self.fields.values():
            if isinstance(rule, Time):
                known += [column for way in rule.ways for column in way.columns]
            elif not isinstance(rule, Instrument):
                known.append(rule.column)
        known += list(self.off_market.columns)
        if self.attributes != "others":
            known += self.attributes
        return list(dict.fromkeys(known))


@lru_cache(maxsize=256)
def _parsed(kind: type[Any], text: str) -> Any:
    # Every chunk brings its layout, and nearly all bring the same.
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecordError(f"the layout is not valid: {faults}") from error


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def known_zone(zone: str) -> str:
    """The zone's name.

    Raises ValueError when the time zone database has no such zone.
    """
    if zone not in _zones():
        raise ValueError(f"{zone!r} is no zone of the time zone database")
    return str(ZoneInfo(zone))


@cache
def builtin_layouts() -> Sequence[Layout]:
    """The layouts that come with the project; `k2` is there once per dataset."""
    folder = resources.files("k2common.layouts").joinpath("builtin")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return [Layout.parse(file.read_text("utf-8")) for file in files if file.name.endswith(".json")]


def layout_named(name: str, *, dataset: str | None) -> Layout:
    """The built-in layout `name`, for `dataset` where one is given.

    Raises RecordError when there is none, or when the name alone does not say which dataset.
    """
    named = [layout for layout in builtin_layouts() if layout.name == name]
    if not named:
        names = ", ".join(sorted({layout.name for layout in builtin_layouts()}))
        raise RecordError(f"there is no layout {name!r}; there are {names}")
    fitting = [layout for layout in named if dataset in (None, layout.dataset)]
    if not fitting:
        raise RecordError(f"layout {name!r} is for {named[0].dataset}, not for {dataset}")
    if len(fitting) > 1:
        raise RecordError(f"layout {name!r} is for several datasets; say which")
    return fitting[0]
