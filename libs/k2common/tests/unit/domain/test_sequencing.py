"""Events of sequence numbers equal those of a model that looks at one row after the other."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.domain.numbering import Limits
from k2common.domain.sequencing import ROW_COLUMNS, Sequencer

LIMITS = Limits(large_gap=10)
Row = tuple[str, int, int | None, int]
"""Symbol, day, number, time."""


def table(rows: list[Row], *, first: int = 0) -> pa.Table:
    count = len(rows)
    columns = {
        "venue": pa.array(["XTST"] * count, pa.string()),
        "symbol": pa.array([row[0] for row in rows], pa.string()),
        "source": pa.array(["feed"] * count, pa.string()),
        "trading_date": pa.array([row[1] for row in rows], pa.int32()).cast(pa.date32()),
        "ts_event_ns": pa.array([row[3] for row in rows], pa.int64()),
        "sequence": pa.array([row[2] for row in rows], pa.int64()),
        "upload_id": pa.array(["U"] * count, pa.string()),
        "line": pa.array(range(first, first + count), pa.int64()),
        "kafka_epoch": pa.array([0] * count, pa.int32()),
        "kafka_partition": pa.array([0] * count, pa.int32()),
        "kafka_offset": pa.array(range(first, first + count), pa.int64()),
    }
    return pa.table(columns).select(list(ROW_COLUMNS))


def events_of(
    rows: list[Row], cuts: list[int] | None = None, *, limits: Limits = LIMITS
) -> list[dict[str, Any]]:
    sequencer = Sequencer(limits)
    edges = [0, *sorted({cut % (len(rows) + 1) for cut in cuts or []}), len(rows)]
    for first, end in pairwise(edges):
        sequencer.take(table(rows[first:end], first=first))
    return list(sequencer.settle(0).to_pylist())


def told(rows: list[Row], **options: Any) -> list[tuple[Any, ...]]:
    """Kind, first number and count of each event."""
    return [(e["kind"], e["first_sequence"], e["count"]) for e in events_of(rows, **options)]


def day(*numbers: int | None, at: int = 0, since: int = 0) -> list[Row]:
    return [("A", at, number, since + n) for n, number in enumerate(numbers)]


def test_numbers_that_follow_each_other_say_nothing() -> None:
    assert told(day(5, 6, 7, 8)) == []
    assert told([*day(1, 2), *day(3, 4, at=1, since=10)]) == []


def test_gaps_are_small_or_large() -> None:
    assert told(day(1, 2, 12, 23)) == [("small_gap", 3, 9), ("large_gap", 13, 10)]


def test_a_gap_says_where_and_when() -> None:
    (event,) = events_of(day(1, 2, 5, since=100))
    assert (event["previous_sequence"], event["start_ns"], event["ts_event_ns"]) == (2, 101, 102)
    assert (event["row_epoch"], event["row_partition"], event["row_offset"]) == (0, 0, 2)
    assert (event["upload_id"], event["line"]) == ("U", 2)


def test_late_numbers_heal_a_gap_and_name_it() -> None:
    events = events_of(day(1, 5, 2, 3, 4))
    assert [(e["kind"], e["first_sequence"], e["count"]) for e in events] == [
        ("small_gap", 2, 3),
        ("healed", 2, 3),
    ]
    assert events[1]["gap"] == events[0]["number"] == 0


def test_a_number_that_came_before_is_a_duplicate() -> None:
    assert told(day(1, 2, 3, 2, 3, 4)) == [("duplicate", 2, 2)]


def test_a_number_below_the_first_is_out_of_order() -> None:
    assert told([*day(5, 6, since=10), *day(3, 4), *day(7, since=12)]) == [("out_of_order", 3, 2)]


def test_a_venue_that_restarts_is_a_reset() -> None:
    assert told(day(1, 2, 3, 1, 2)) == [("reset_restart", 1, None)]
    assert told(day(5, *range(6, 20), 7, since=0)) == [("reset_restart", 7, None)]
    # Rows that are no later than the others were sent twice.
    same = [("A", 0, number, 0) for number in (1, 2, 3, 1, 2, 3)]
    assert told(same) == [("duplicate", 1, 3)]


def test_numbers_of_the_next_day_go_on_leave_a_gap_or_begin_anew() -> None:
    assert told([*day(1, 2), *day(1, 2, at=1)]) == [("reset_overnight", 1, None)]
    assert told([*day(1, 2), *day(5, at=1)]) == [("small_gap", 3, 2)]


def test_rows_of_the_day_before_heal_the_gap_overnight() -> None:
    rows = [*day(1, 2), *day(5, 6, at=1), *day(3, at=0, since=9), *day(4, at=0, since=10)]
    assert told(rows) == [("small_gap", 3, 2), ("healed", 3, 2)]
    skipping = [*day(1, 2), *day(7, 8, at=2), *day(5, 6, at=1)]
    assert told(skipping) == [("small_gap", 3, 4), ("small_gap", 3, 2), ("healed", 3, 4)]


def test_days_are_followed_apart_in_whatever_order_they_come() -> None:
    assert told([*day(1, 2, at=5), *day(1, 2, at=4), *day(3, at=5, since=7), *day(3, at=4, since=7)]) == []


def test_rows_without_a_number_are_said_once_a_day() -> None:
    rows = [*day(None, None, 1), *day(None, at=1), *day(2, None, at=0, since=5)]
    assert told(rows) == [("unsequenced", None, None), ("unsequenced", None, None)]


def test_of_rows_without_a_number_the_latest_days_are_remembered() -> None:
    limits = Limits(unsequenced_days=1)
    rows = [*day(None, at=1), *day(None, at=2), *day(None, at=1), *day(None, at=3)]
    days = [event["trading_date"].day for event in events_of(rows, limits=limits)]
    assert days == [2, 3, 4]


def test_the_lowest_of_too_many_open_gaps_is_forgotten() -> None:
    limits = Limits(large_gap=10, open_gaps=1)
    events = told([*day(1, 3, 5, since=10), *day(2, 4)], limits=limits)
    assert events == [("small_gap", 2, 1), ("small_gap", 4, 1), ("out_of_order", 2, 1), ("healed", 4, 1)]


def test_after_too_many_events_of_a_day_nothing_more_is_said_of_it() -> None:
    limits = Limits(large_gap=10, events=2)
    rows = [*day(1, 3, 5, 7, 9, 11, 2, 4), *day(12, 14, at=1)]
    assert told(rows, limits=limits) == [
        ("small_gap", 2, 1),
        ("small_gap", 4, 1),
        ("untracked", 6, None),
        ("small_gap", 13, 1),
    ]


def test_the_day_that_was_touched_longest_ago_is_forgotten_and_compared_with_nothing() -> None:
    rows = [*day(1, 2), *day(1, at=1), *day(1, at=2), *day(3, at=0, since=9), *day(50, at=1, since=9)]
    resets = [("reset_overnight", 1, None), ("reset_overnight", 1, None)]
    assert told(rows) == [*resets, ("large_gap", 2, 48)]
    assert told(rows, limits=Limits(large_gap=10, days=2)) == resets


def test_a_day_that_is_followed_anew_voids_what_was_said() -> None:
    sequencer = Sequencer(LIMITS)
    sequencer.take(table(day(1, 5, 6)))
    sequencer.settle(0)
    sequencer.forget(("XTST", "A", "feed"), 0)
    sequencer.take(table(day(1, 2, 5)))
    events = sequencer.settle(1).to_pylist()
    assert [(e["kind"], e["number"], e["trading_date"].isoformat()) for e in events] == [
        ("rescanned", 1, "1970-01-01"),
        ("small_gap", 2, "1970-01-01"),
    ]


def test_days_that_a_gap_joins_stand_or_fall_together() -> None:
    sequencer = Sequencer(LIMITS)
    name = ("XTST", "A", "feed")
    assert sequencer.joined(name, [0]) == {0}
    sequencer.take(table([*day(1, 2), *day(5, 6, at=1), *day(9, at=2), *day(1, at=3)]))
    assert sequencer.joined(name, [0]) == {0, 1, 2}
    assert sequencer.joined(name, [1]) == {1, 2}
    assert sequencer.joined(name, [3]) == {3}


@dataclass
class Model:
    """One row after the other, with every number that came in a set."""

    limits: Limits = LIMITS
    seen: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    missing: dict[tuple[str, int], dict[int, tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    newest: dict[tuple[str, int], int] = field(default_factory=dict)
    previous: dict[str, tuple[int, int]] = field(default_factory=dict)
    found: list[dict[str, Any]] = field(default_factory=list)
    said: set[tuple[str, int]] = field(default_factory=set)

    def say(
        self, kind: str, at: int, symbol: str, of_day: int, first: int | None, gap: Any = None, count: Any = 1
    ) -> None:
        for known in reversed(self.found):
            same = (known["kind"], known["symbol"], known["day"], known["gap"]) == (kind, symbol, of_day, gap)
            if same and kind in ("healed", "duplicate", "out_of_order"):
                if known["first"] + known["count"] == first:
                    known["count"] += count
                    return
                break
        self.found.append(
            {
                "kind": kind,
                "at": at,
                "symbol": symbol,
                "day": of_day,
                "first": first,
                "count": count,
                "gap": gap,
            }
        )

    def open(self, at: int, symbol: str, of_day: int, numbers: range, since: int) -> None:
        kind = "large_gap" if len(numbers) >= self.limits.large_gap else "small_gap"
        self.say(kind, at, symbol, of_day, numbers[0], count=len(numbers))
        for number in numbers:
            self.missing[(symbol, of_day)][number] = (at, since)

    def came(self, at: int, symbol: str, of_day: int, numbers: range) -> None:
        """Numbers are no longer missing before later days."""
        later = [d for s, d in self.order if s == symbol and d > of_day]
        for other in later:
            missing = self.missing[(symbol, other)]
            for number in numbers:
                if number in missing and missing[number][1] <= of_day:
                    gap, _ = missing.pop(number)
                    self.say("healed", at, symbol, other, number, gap)

    @property
    def order(self) -> list[tuple[str, int]]:
        return list(self.seen)

    def take(self, at: int, row: Row) -> None:
        symbol, of_day, number, ts_ns = row
        key = (symbol, of_day)
        if number is None:
            if key not in self.said:
                self.said.add(key)
                self.say("unsequenced", at, symbol, of_day, None, count=None)
            return
        self.number(at, symbol, of_day, number, ts_ns)

    def number(self, at: int, symbol: str, of_day: int, number: int, ts_ns: int) -> None:
        key = (symbol, of_day)
        follows = self.previous.get(symbol) == (of_day, number - 1)
        self.previous[symbol] = (of_day, number)
        seen, missing = self.seen[key], self.missing[key]
        if not seen:
            self.start(at, symbol, of_day, number)
        elif number > max(seen):
            last = max(seen)
            if number > last + 1:
                self.open(at, symbol, of_day, range(last + 1, number), of_day)
            seen.add(number)
            self.came(at, symbol, of_day, range(last + 1, number + 1))
        elif number in missing:
            gap, _ = missing.pop(number)
            self.say("healed", at, symbol, of_day, number, gap)
        elif self.restarts(key, number, ts_ns) and not follows:
            self.say("reset_restart", at, symbol, of_day, number, count=None)
            seen.clear()
            missing.clear()
            seen.add(number)
            self.came(at, symbol, of_day, range(number, number + 1))
        elif number < min(seen):
            self.say("out_of_order", at, symbol, of_day, number)
        else:
            self.say("duplicate", at, symbol, of_day, number)
        self.newest[key] = max(self.newest.get(key, ts_ns), ts_ns)

    def start(self, at: int, symbol: str, of_day: int, number: int) -> None:
        earlier = [d for s, d in self.seen if s == symbol and d < of_day and self.seen[(s, d)]]
        if earlier:
            last = max(self.seen[(symbol, max(earlier))])
            if number <= last:
                self.say("reset_overnight", at, symbol, of_day, number, count=None)
            elif number > last + 1:
                self.open(at, symbol, of_day, range(last + 1, number), max(earlier))
                self.came(at, symbol, of_day, range(last + 1, number))
        self.seen[(symbol, of_day)].add(number)
        self.came(at, symbol, of_day, range(number, number + 1))

    def restarts(self, key: tuple[str, int], number: int, ts_ns: int) -> bool:
        if ts_ns <= self.newest[key]:
            return False
        seen = self.seen[key]
        return number <= min(seen) or max(seen) - number >= self.limits.large_gap


STEPS = st.one_of(st.just(1), st.just(1), st.just(1), st.integers(-4, 5), st.integers(-25, 25))
ROWS = st.lists(
    st.tuples(
        st.sampled_from("AAB"), st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 9), STEPS, st.integers(-1, 3)
    ),
    max_size=60,
)


def rows_of(drawn: list[tuple[str, int, int, int, int]]) -> list[Row]:
    """Numbers that mostly follow each other; now and then none."""
    at: dict[tuple[str, int], int] = {}
    rows: list[Row] = []
    ts_ns = 0
    for symbol, of_day, nothing, step, later in drawn:
        number = max(1, at.get((symbol, of_day), 30) + step)
        at[(symbol, of_day)] = number
        ts_ns += later
        rows.append((symbol, of_day, None if nothing == 9 else number, ts_ns))
    return rows


def modelled(rows: list[Row]) -> list[dict[str, Any]]:
    model = Model()
    for at, row in enumerate(rows):
        model.take(at, row)
    return model.found


def canonical(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The events with the row of the gap in the place of its number."""
    rows = {event["number"]: event["row_offset"] for event in events}
    return sorted(
        (
            event["row_offset"],
            event["kind"],
            event["symbol"],
            (event["trading_date"] - EPOCH_DAY).days,
            event["first_sequence"] or 0,
            event["count"] or 0,
            -1 if event["gap"] is None else rows[event["gap"]],
        )
        for event in events
    )


EPOCH_DAY = np.datetime64(0, "D").item()


@given(drawn=ROWS, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_the_events_are_those_of_the_model_however_the_rows_are_cut(
    drawn: list[tuple[str, int, int, int, int]], cuts: list[int]
) -> None:
    rows = rows_of(drawn)
    expected = sorted(
        (
            e["at"],
            e["kind"],
            e["symbol"],
            e["day"],
            e["first"] or 0,
            e["count"] or 0,
            -1 if e["gap"] is None else e["gap"],
        )
        for e in modelled(rows)
    )
    assert canonical(events_of(rows)) == expected
    assert events_of(rows, cuts) == events_of(rows)


@given(drawn=ROWS, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_small_limits_give_the_same_events_however_the_rows_are_cut(
    drawn: list[tuple[str, int, int, int, int]], cuts: list[int]
) -> None:
    rows = rows_of(drawn)
    limits = Limits(large_gap=5, open_gaps=2, days=2, events=4, unsequenced_days=2)
    assert events_of(rows, cuts, limits=limits) == events_of(rows, limits=limits)


@given(drawn=ROWS, cut=st.integers(0, 60))
def test_a_state_that_was_written_down_goes_on_alike(
    drawn: list[tuple[str, int, int, int, int]], cut: int
) -> None:
    rows = rows_of(drawn)
    first, rest = rows[:cut], rows[cut:]
    going, told_first = Sequencer(LIMITS), Sequencer(LIMITS)
    for sequencer in (going, told_first):
        sequencer.take(table(first))
    number = going.settle(0).num_rows
    told_first.settle(0)
    again = Sequencer(LIMITS, told_first.state())
    assert again.state().equals(going.state())
    for sequencer in (going, again):
        sequencer.take(table(rest, first=cut))
    assert again.settle(number).equals(going.settle(number))


def test_a_batch_without_rows_says_nothing() -> None:
    assert events_of([]) == []


@pytest.mark.parametrize("symbols", [1, 40_000])
def test_many_keys_are_kept_apart(symbols: int) -> None:
    rows: list[Row] = [(f"S{n}", 0, number, number) for number in (1, 2, 4) for n in range(symbols)]
    events = Sequencer(LIMITS)
    events.take(table(rows))
    assert events.settle(0)["count"].to_pylist() == [1] * symbols
