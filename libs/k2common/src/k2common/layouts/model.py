"""A layout says how the columns of a vendor's file become the columns of a dataset; it is data, not code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from k2common.layouts.checks import GIVEN, LayoutError, LayoutFault, faults_of, pointer, required_targets
from k2common.layouts.rules import FileName, Instrument, Part, Rule, Time, columns_of

AssetClass = Literal["equity", "crypto", "future", "option", "fx", "index", "other"]
Encoding = Literal[
    "utf-8",
    "latin-1",
    "iso8859-2",
    "iso8859-5",
    "iso8859-9",
    "iso8859-15",
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1254",
    "koi8-r",
]
"""Encodings in which a newline, a quote and a delimiter are one byte and nothing else has these bytes."""


class OffMarket(Part):
    """Prints that bars and summaries leave out when asked: by condition, or by the value of a column."""

    conditions: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


class Layout(Part):
    """How one kind of file is read.

    `columns` are the file's columns in their order where it has no header. `timezone` is the zone of times
    that name none, and of the trading date; `ambiguous_times` says which of the two a time is that the zone
    has twice. Times outside `plausible_from` and `plausible_to` are refused. Rows in which a column of
    `where` has none of its values are left out and counted as filtered.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = Field(min_length=1, max_length=1000)
    citation: str | None = Field(default=None, max_length=1000)
    dataset: Literal["trades", "quotes", "bars", "instruments", "corporate_actions"]
    header: bool
    columns: tuple[str, ...] = ()
    delimiter: str = Field(default=",", pattern=r"^[\t -!#-/:-@\[-`{-~]$")
    encoding: Encoding = "utf-8"
    timezone: str = "UTC"
    ambiguous_times: Literal["refuse", "earlier", "later"] = "refuse"
    source: str | None = None
    venue: str | None = None
    asset_class: AssetClass | None = None
    currency: str | None = None
    fields: Mapping[str, Rule]
    where: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    unknown_columns: Literal["attributes", "ignore", "refuse"] = "refuse"
    off_market: OffMarket = OffMarket()
    ignore_lines: tuple[str, ...] = ()
    plausible_from: date = date(1980, 1, 1)
    plausible_to: date = date(2100, 1, 1)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The layout in a JSON text.

        Raises LayoutError, which names every fault by its JSON pointer.
        """
        layout = cls.accepted(text)
        if faults := faults_of(layout):
            raise LayoutError(faults)
        return layout

    @classmethod
    def accepted(cls, text: str) -> Self:
        """The layout of an upload that was accepted, whatever is refused by now.

        Raises LayoutError for a text that has not the form of a layout.
        """
        layout: Self = _parsed(cls, text)
        return layout

    @property
    def canonical_json(self) -> str:
        """One text for equal layouts; it is part of an upload's identity."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def uses_instruments(self) -> bool:
        """Whether symbols come from reference data."""
        return any(isinstance(rule, Instrument) for rule in self.fields.values())

    @property
    def uses_file_name(self) -> bool:
        """Whether rows depend on the file's name."""
        return any(
            isinstance(rule, FileName) or (isinstance(rule, Instrument) and rule.column is None)
            for rule in self.fields.values()
        )

    def requires(self, target: str) -> bool:
        """Whether a row without this column of the dataset is refused."""
        rule = self.fields.get(target)
        return target in required_targets(self.dataset) or bool(getattr(rule, "required", False))

    def needed_columns(self) -> Sequence[str]:
        """Columns of the file without which no row could be accepted."""
        needed = [
            column
            for target, rule in self.fields.items()
            if getattr(rule, "required", False) or (target in required_targets(self.dataset) - set(GIVEN))
            if not isinstance(rule, Time)
            for column in columns_of(rule)
        ]
        return list(dict.fromkeys((*needed, *self.where)))

    def ruled_columns(self) -> Sequence[str]:
        """Every column of the file that something but `columns` names."""
        ruled = [column for rule in self.fields.values() for column in columns_of(rule)]
        return list(dict.fromkeys((*ruled, *self.off_market.columns, *self.where, *self.attributes)))


@lru_cache(maxsize=256)
def _parsed(kind: type[Any], text: str) -> Any:
    # Every chunk brings its layout, and nearly all bring the same.
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        document = _document(text)
        raise LayoutError(
            [LayoutFault(pointer=pointer(e["loc"], document), message=e["msg"]) for e in error.errors()]
        ) from error


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
