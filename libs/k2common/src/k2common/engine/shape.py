"""Rows as a caller wants them: which columns, how times and decimals are written, as JSON, as text, as Arrow.

No caller's word stands in the SQL: names of the vendor's own attributes are parameters, and columns have
numbers until they leave the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from k2common.columnar.arrow import arrow_schema_of
from k2common.engine.scan import Parameters
from k2common.engine.text import MICROSECONDS, columns_of, exact, flat, quoted
from k2common.schemas.datasets import Dataset

ATTRIBUTE = "attributes."
NANOSECONDS = pa.timestamp("ns", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`fields` are columns, or `attributes.<name>` for one of the vendor's own.

    Decimals are exact unless `numbers`, which makes them doubles. Times are RFC 3339 with nine digits in
    text; in Arrow `ts_event` is in nanoseconds, which reach the year 2262, and others are in microseconds.
    With `nanoseconds` all are integers (strings in JSON). `schema` has the columns where they are not the
    dataset's own.
    """

    dataset: Dataset
    fields: Sequence[str]
    numbers: bool = False
    nanoseconds: bool = False
    schema: pa.Schema | None = None

    @classmethod
    def whole(cls, dataset: Dataset) -> Shape:
        """All columns, exact."""
        return cls(dataset=dataset, fields=tuple(columns_of(dataset)))

    def json(self, parameters: Parameters) -> str:
        """A row as one JSON object in text."""
        if not any(name.startswith(ATTRIBUTE) for name in self.fields):
            entries = ", ".join(f"'{name}': {self._exact(name, parameters)}" for name in self.fields)
            return f"CAST(to_json({{{entries}}}) AS VARCHAR)"
        pairs = [f"{self._key(name, parameters)}, {self._exact(name, parameters)}" for name in self.fields]
        return f"CAST(json_object({', '.join(pairs)}) AS VARCHAR)"

    def text(self, parameters: Parameters) -> str:
        """The columns as text, c0 and so on; lists and maps as JSON, null as nothing."""
        return self._numbered([self._flat(name, parameters) for name in self.fields])

    def native(self, parameters: Parameters) -> str:
        """The columns as they are, c0 and so on."""
        return self._numbered([self._native(name, parameters) for name in self.fields])

    def named(self, numbered: pa.Schema) -> pa.Schema:
        """The fields' names for what `native` gave."""
        return pa.schema(_in_utc(numbered.field(n).with_name(name)) for n, name in enumerate(self.fields))

    def _numbered(self, expressions: Sequence[str]) -> str:
        return ", ".join(f"{expression} AS c{n}" for n, expression in enumerate(expressions))

    def _key(self, name: str, parameters: Parameters) -> str:
        return parameters.bind(name) if name.startswith(ATTRIBUTE) else f"'{name}'"

    def _exact(self, name: str, parameters: Parameters) -> str:
        if name.startswith(ATTRIBUTE):
            return self._native(name, parameters)
        return exact(self._field(name), numbers=self.numbers, nanoseconds=self.nanoseconds)

    def _flat(self, name: str, parameters: Parameters) -> str:
        if name.startswith(ATTRIBUTE):
            return self._native(name, parameters)
        return flat(self._field(name), numbers=self.numbers, nanoseconds=self.nanoseconds)

    def _native(self, name: str, parameters: Parameters) -> str:
        if name.startswith(ATTRIBUTE):
            return f"attributes[{parameters.bind(name.removeprefix(ATTRIBUTE))}]"
        if self.nanoseconds and name in MICROSECONDS:
            return MICROSECONDS[name]
        if name == "ts_event":
            # The microseconds are for partitions; two events may be nanoseconds apart.
            return "make_timestamp_ns(ts_event_ns)"
        as_double = self.numbers and pa.types.is_decimal(self._field(name).type)
        return f"CAST({quoted(name)} AS DOUBLE)" if as_double else quoted(name)

    def _field(self, name: str) -> pa.Field:
        schema = self.schema
        if schema is None:
            schema = arrow_schema_of(self.dataset.topic.schema)
        return schema.field(name)


def _in_utc(field: pa.Field) -> pa.Field:
    # The engine's nanoseconds have no time zone.
    return field.with_type(NANOSECONDS) if field.type == pa.timestamp("ns") else field
