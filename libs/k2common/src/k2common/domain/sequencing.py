"""Events of sequence numbers from batches of rows, with a state that can be written down; no I/O.

Rows of a key (venue, symbol, source) are followed in the order in which they are given. A batch costs Python
objects for each run of following numbers of a key, not for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k2common.domain.numbering import (
    NEVER,
    Event,
    Integers,
    Key,
    Kind,
    Limits,
    Numbering,
    OpenGap,
    Run,
)

KeyName: TypeAlias = tuple[str, str, str]
KEY_COLUMNS = ("venue", "symbol", "source")
PLACE_COLUMNS = ("upload_id", "line", "kafka_epoch", "kafka_partition", "kafka_offset")
ROW_COLUMNS = (*KEY_COLUMNS, "trading_date", "ts_event_ns", "sequence", *PLACE_COLUMNS)
"""What a batch of rows has."""
DAY_NS = 86_400_000_000_000
KIND_ORDER = {kind: n for n, kind in enumerate(Kind)}

EVENTS = pa.schema(
    [
        ("kind", pa.string()),
        *((name, pa.string()) for name in KEY_COLUMNS),
        ("trading_date", pa.date32()),
        ("ts_event_ns", pa.int64()),
        ("start_ns", pa.int64()),
        ("first_sequence", pa.int64()),
        ("count", pa.int64()),
        ("previous_sequence", pa.int64()),
        ("number", pa.int64()),
        ("gap", pa.int64()),
        ("upload_id", pa.string()),
        ("line", pa.int64()),
        ("row_epoch", pa.int32()),
        ("row_partition", pa.int32()),
        ("row_offset", pa.int64()),
    ]
)
OPEN_GAP = pa.struct(
    [("first", pa.int64()), ("end", pa.int64()), ("since", pa.int32()), ("event", pa.int64())]
)
STATE = pa.schema(
    [
        *((name, pa.string()) for name in KEY_COLUMNS),
        ("forgotten", pa.int64()),
        ("previous", pa.int64()),
        ("day", pa.int32()),
        ("unsequenced", pa.bool_()),
        ("followed", pa.bool_()),
        ("started", pa.bool_()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("last_ns", pa.int64()),
        ("newest_ns", pa.int64()),
        ("since", pa.int32()),
        ("events", pa.int64()),
        ("untracked", pa.bool_()),
        ("gaps", pa.list_(OPEN_GAP)),
    ]
)
FIELDS = ("day", "started", "first", "last", "last_ns", "newest_ns", "since", "events", "untracked")


class Sequencer:
    """What is remembered of all keys, and the events since they were last settled."""

    def __init__(self, limits: Limits, state: pa.Table | None = None) -> None:
        """`state` is what `state` gave; None begins with nothing."""
        self._limits = limits
        self._keys = {} if state is None else dict(_keys_of(state, limits))
        self._touched: dict[KeyName, Key] = {}
        self._details: dict[int, Mapping[str, Any]] = {}
        self._marks: list[tuple[KeyName, Event]] = []
        self._rows = 0

    def joined(self, name: KeyName, days: Iterable[int]) -> frozenset[int]:
        """These days of the key, and those that gaps join to them."""
        key = self._keys.get(name)
        return frozenset(days if key is None else (d for day in days for d in key.joined(day)))

    def forget(self, name: KeyName, day: int) -> None:
        """The day is to be followed again, and what was said of it before does not hold."""
        if name in self._keys:
            self._keys[name].forget(day)
        self._marks.append((name, Event(Kind.RESCANNED, day, -1, day * DAY_NS)))

    def take(self, rows: pa.Table) -> None:
        """Follow rows with the columns ROW_COLUMNS; days are as `trading_date` says."""
        if not rows.num_rows:
            return
        batch = _Batch(rows, first_row=self._rows)
        for code, day, row, ts_ns in batch.unsequenced():
            self._key(batch.name(code)).say_unsequenced(day, row=row, ts_ns=ts_ns)
        for code, run in batch.runs():
            self._key(batch.name(code)).take(run)
        found = {event.at for key in self._touched.values() for event in key.events if event.at >= self._rows}
        self._details |= batch.details(sorted(found))
        self._rows += rows.num_rows

    def settle(self, first_number: int) -> pa.Table:
        """The events since the last call, in the order of their rows, numbered from `first_number` on."""
        found = [*self._marks]
        for name, key in self._touched.items():
            found += ((name, event) for event in key.settle())
        found.sort(key=lambda item: (item[1].at, KIND_ORDER[item[1].kind], item[1].first or 0, item[1].day))
        for number, (_, event) in enumerate(found, start=first_number):
            event.number = number
        table = pa.Table.from_pylist([self._row(name, event) for name, event in found], schema=EVENTS)
        self._touched, self._details, self._marks, self._rows = {}, {}, [], 0
        return table

    def state(self) -> pa.Table:
        """All that is remembered; only after `settle`."""
        return pa.Table.from_pylist(list(_state_rows(self._keys)), schema=STATE)

    def _key(self, name: KeyName) -> Key:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = Key(self._limits)
        self._touched[name] = key
        return key

    def _row(self, name: KeyName, event: Event) -> Mapping[str, Any]:
        details = self._details.get(event.at, {})
        return {
            "kind": str(event.kind),
            **dict(zip(KEY_COLUMNS, name, strict=True)),
            "trading_date": event.day,
            "ts_event_ns": event.ts_ns,
            "start_ns": event.start_ns,
            "first_sequence": event.first,
            "count": event.count,
            "previous_sequence": event.previous,
            "number": event.number,
            "gap": None if event.gap is None else event.gap.number,
            "upload_id": details.get("upload_id"),
            "line": details.get("line"),
            "row_epoch": details.get("kafka_epoch"),
            "row_partition": details.get("kafka_partition"),
            "row_offset": details.get("kafka_offset"),
        }


class _Batch:
    """Rows as arrays; a code stands for each key."""

    def __init__(self, rows: pa.Table, *, first_row: int) -> None:
        self._table = rows
        self._first_row = first_row
        self._codes = _codes(rows)
        self._days = np.asarray(rows["trading_date"].cast(pa.int32()), np.int64)
        self._times = np.asarray(rows["ts_event_ns"], np.int64)
        self._numbered = np.asarray(rows["sequence"].is_valid())
        self._numbers = np.asarray(pc.fill_null(rows["sequence"], 0), np.int64)
        self._names: dict[int, KeyName] = {}
        self._row_of: dict[int, int] = {}

    def name(self, code: int) -> KeyName:
        """The key of the code."""
        if code not in self._names:
            row = self._row_of[code]
            venue, symbol, source = (str(self._table[column][row].as_py()) for column in KEY_COLUMNS)
            self._names[code] = (venue, symbol, source)
        return self._names[code]

    def unsequenced(self) -> Iterator[tuple[int, int, int, int]]:
        """Code, day, row and time of the first row without a number of each key and day."""
        rows = np.flatnonzero(~self._numbered)
        if not len(rows):
            return
        days = self._days[rows]
        groups = self._codes[rows] * (int(days.max()) - int(days.min()) + 1) + (days - days.min())
        _, firsts = np.unique(groups, return_index=True)
        for row in np.sort(rows[firsts]).tolist():
            code = int(self._codes[row])
            self._row_of.setdefault(code, row)
            yield code, int(self._days[row]), self._first_row + row, int(self._times[row])

    def runs(self) -> Iterator[tuple[int, Run]]:
        """Code and run, those of a key in their order."""
        rows = np.flatnonzero(self._numbered)
        if not len(rows):
            return
        keys = self._codes[rows]
        # Sixteen bits are sorted in one pass.
        narrow = keys.astype(np.int16) if keys.max() < 2**15 else keys
        rows = rows[np.argsort(narrow, kind="stable")]
        codes, days = self._codes[rows], self._days[rows]
        numbers, times = self._numbers[rows], self._times[rows]
        breaks = (np.diff(codes) != 0) | (np.diff(days) != 0) | (np.diff(numbers) != 1)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(rows)]
        for first, end in pairwise(edges):
            code = int(codes[first])
            self._row_of.setdefault(code, int(rows[first]))
            yield (
                code,
                Run(
                    day=int(days[first]),
                    first=int(numbers[first]),
                    times=times[first:end],
                    rows=rows[first:end] + self._first_row,
                ),
            )

    def details(self, rows: list[int]) -> Mapping[int, Mapping[str, Any]]:
        """Where these rows came from."""
        wanted = pa.array([row - self._first_row for row in rows], pa.int64())
        places = self._table.select(PLACE_COLUMNS).take(wanted)
        return dict(zip(rows, places.to_pylist(), strict=True))


def _codes(rows: pa.Table) -> Integers:
    """A number for each row's key, the same for equal ones."""
    codes = np.zeros(rows.num_rows, np.int64)
    for name in KEY_COLUMNS:
        column: Any = pc.dictionary_encode(rows[name].combine_chunks().cast(pa.string()))
        codes = codes * max(1, len(column.dictionary)) + np.asarray(column.indices, np.int64)
    return codes


def _state_rows(keys: Mapping[KeyName, Key]) -> Iterator[Mapping[str, Any]]:
    for name, key in keys.items():
        common = {**dict(zip(KEY_COLUMNS, name, strict=True)), "forgotten": key.forgotten}
        previous = key.previous or (NEVER, None)
        for day in sorted(key.unsequenced - key.days.keys()):
            yield {**common, "day": day, "unsequenced": True, "followed": False}
        for day, numbering in key.days.items():
            yield {
                **common,
                **{field: getattr(numbering, field) for field in FIELDS},
                "previous": previous[1] if previous[0] == day else None,
                "unsequenced": day in key.unsequenced,
                "followed": True,
                "gaps": [
                    {"first": g.first, "end": g.end, "since": g.since, "event": g.event.number}
                    for g in numbering.gaps
                ],
            }


def _keys_of(state: pa.Table, limits: Limits) -> Mapping[KeyName, Key]:
    keys: dict[KeyName, Key] = {}
    for row in state.to_pylist():
        key = keys.setdefault((row["venue"], row["symbol"], row["source"]), Key(limits))
        key.forgotten = row["forgotten"]
        if row["unsequenced"]:
            key.unsequenced.add(row["day"])
        if not row["followed"]:
            continue
        numbering = Numbering(**{field: row[field] for field in FIELDS})
        numbering.gaps = [
            OpenGap(
                gap["first"],
                gap["end"],
                gap["since"],
                Event(Kind.SMALL_GAP, row["day"], -1, 0, number=gap["event"]),
            )
            for gap in row["gaps"]
        ]
        key.days[row["day"]] = numbering
        if row["previous"] is not None:
            key.previous = (row["day"], row["previous"])
    return keys
