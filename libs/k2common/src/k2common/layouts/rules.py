"""How one column of a dataset is made from the columns of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

TimeFormat = Literal["epoch_ns", "epoch_us", "epoch_ms", "epoch_s", "iso", "date_time"]
Nulls = Annotated[tuple[str, ...], Field(max_length=16)]
GROUP = "value"


class Part(BaseModel):
    """Frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(Part):
    """The cell as it is; an empty one and those of `nulls` are null."""

    kind: Literal["text"]
    column: str
    required: bool = False
    nulls: Nulls = ()


class Number(Part):
    """An exact decimal with up to 16 digits before and 12 after the point.

    With `scale` the cell is a 64-bit integer that counts units of 10 to the power of minus `scale`.
    """

    kind: Literal["decimal"]
    column: str
    required: bool = False
    zero_is_null: bool = False
    negative: bool = False
    scale: int | None = Field(default=None, ge=0, le=18)
    nulls: Nulls = ()


class Integer(Part):
    """A 64-bit integer."""

    kind: Literal["integer"]
    column: str
    required: bool = False
    nulls: Nulls = ()


class Choice(Part):
    """One of a few values; `values` maps the file's words, in lower case, to the dataset's."""

    kind: Literal["enum"]
    column: str
    values: Mapping[str, str]
    default: str


class Constant(Part):
    """The same value in every row."""

    kind: Literal["constant"]
    value: str = Field(min_length=1)


class FileName(Part):
    """A part of the file's name: the group `value` of a regular expression in the syntax of RE2."""

    kind: Literal["filename"]
    pattern: str = Field(max_length=256)

    @field_validator("pattern")
    @classmethod
    def _has_the_group(cls, pattern: str) -> str:
        try:
            found = pc.extract_regex(pa.array([""]), pattern=pattern)
        except pa.ArrowInvalid as error:
            raise ValueError(f"no regular expression: {error}") from error
        if [field.name for field in found.type] != [GROUP]:
            raise ValueError(f"the pattern has one group, (?P<{GROUP}>…)")
        return pattern

    def value(self, name: str | None) -> str | None:
        """What the pattern finds in the file's name, without its folders."""
        if name is None:
            return None
        found = pc.extract_regex(pa.array([name.rpartition("/")[2]]), pattern=self.pattern)[0].as_py()
        return found[GROUP] or None if found else None


class Words(Part):
    """A list: the cell split at `separator`, or the whole cell where there is none."""

    kind: Literal["list"]
    column: str
    separator: str | None = None


class Day(Part):
    """A date, in a format of strptime."""

    kind: Literal["date"]
    column: str
    format: str = "%Y-%m-%d"
    required: bool = False
    nulls: Nulls = ()


class Moment(Part):
    """One way to read a time: a number since 1970, ISO 8601, or a date and a time of day side by side."""

    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    format: TimeFormat
    date_format: str = "%Y-%m-%d"

    @field_validator("format")
    @classmethod
    def _fits(cls, form: TimeFormat, info: object) -> TimeFormat:
        columns = getattr(info, "data", {}).get("columns", ())
        if columns and (len(columns) == 2) != (form == "date_time"):
            raise ValueError("date_time has two columns, every other format one")
        return form


class Time(Part):
    """The first of these ways whose columns the file has."""

    kind: Literal["time"]
    ways: Annotated[tuple[Moment, ...], Field(min_length=1)]
    nulls: Nulls = ()


class Instrument(Part):
    """The symbol by reference data: the instrument's id is a column, or the file's name without its suffix.

    An id that is not known on the row's date is a reject, or with `unknown` of keep the symbol itself.
    """

    kind: Literal["instrument"]
    column: str | None = None
    unknown: Literal["refuse", "keep"] = "refuse"


Rule = Annotated[
    Text | Number | Integer | Choice | Constant | FileName | Words | Day | Time | Instrument,
    Field(discriminator="kind"),
]


def columns_of(rule: Rule) -> tuple[str, ...]:
    """The columns of the file that the rule looks at."""
    if isinstance(rule, Time):
        return tuple(column for way in rule.ways for column in way.columns)
    column = getattr(rule, "column", None)
    return () if column is None else (column,)
