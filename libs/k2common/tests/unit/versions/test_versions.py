"""Versions are read back as written, never go back, and show what was there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.errors import RecordError
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version, format_token, parse_token, version_at

NOW = datetime(2024, 8, 8, 12, tzinfo=UTC)
small = st.integers(0, 5)
offsets = st.dictionaries(st.integers(0, 3), st.integers(0, 2**62), max_size=4)
uploads = st.sampled_from(["A", "B", "C"])
ranges = st.builds(OffsetRange, epoch=small, partition=small, first=small, end=small)
hidden = st.dictionaries(
    uploads,
    st.builds(HiddenUpload, reason=st.sampled_from(Reason), ranges=st.lists(ranges, max_size=3).map(tuple)),
)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zone is given
versions = st.builds(
    Version,
    table=st.just("market.trades"),
    number=st.integers(1, 10**9),
    committed_at=moments,
    schema_id=small,
    epoch=small,
    offsets=offsets,
    hidden=hidden,
    gone=st.lists(st.tuples(small, small), max_size=3).map(tuple),
    resume=st.dictionaries(st.just("ingest.status.v1"), offsets),
)


def first_version() -> Version:
    return Version(
        table="market.trades", number=1, committed_at=NOW, schema_id=0, epoch=0, offsets={0: 10, 1: 20}
    )


@given(versions)
def test_a_document_is_read_back_as_written_and_equal_ones_have_equal_text(version: Version) -> None:
    text = version.to_json()
    assert Version.from_json(text) == version
    assert Version.from_json(text).to_json() == text
    shuffled = replace(version, offsets=dict(reversed(version.offsets.items())))
    assert shuffled.to_json() == text


@given(
    st.lists(st.tuples(uploads, st.integers(0, 1)), min_size=1, max_size=40),
    st.sets(uploads),
    st.data(),
)
def test_any_version_shows_the_rows_it_had_however_many_follow(
    rows: list[tuple[str, int]], taken_back: set[str], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    positions: list[tuple[str, int, int]] = []
    for upload, partition in rows:
        positions.append((upload, partition, sum(p == partition for _, p, _ in positions)))
    ends = {p: sum(q == p for _, q, _ in positions[:cut]) for p in (0, 1)}
    version = replace(
        first_version(), offsets=ends, hidden={u: HiddenUpload(reason=Reason.LOADING) for u in taken_back}
    )
    expected = [row for row in positions[:cut] if row[0] not in taken_back]
    assert [
        (u, p, o) for u, p, o in positions if version.shows(u, epoch=0, partition=p, offset=o)
    ] == expected


def test_rows_of_an_earlier_epoch_are_shown_and_of_a_later_one_not() -> None:
    version = replace(first_version(), epoch=1)
    assert version.shows("A", epoch=0, partition=0, offset=10**9)
    assert not version.shows("A", epoch=2, partition=0, offset=0)
    assert not version.shows("A", epoch=1, partition=7, offset=0)


def test_a_successor_is_later_even_when_the_clock_went_back() -> None:
    head = first_version()
    following = head.successor(now=NOW - timedelta(hours=1), offsets={1: 25}, hidden={})
    assert following.number == 2
    assert following.committed_at > head.committed_at
    assert following.offsets == {0: 10, 1: 25}


def test_offsets_never_go_back() -> None:
    with pytest.raises(ValueError, match=r"partitions \[1\] would go back"):
        first_version().successor(now=NOW, offsets={1: 19}, hidden={})


def test_purged_versions_are_gone_and_their_neighbours_not() -> None:
    head = replace(first_version(), gone=((2, 4), (7, 7)))
    assert [number for number in range(1, 9) if head.is_gone(number)] == [2, 3, 4, 7]


def test_a_time_names_the_newest_version_committed_by_then() -> None:
    history = [first_version()]
    for minute in (1, 2):
        history.append(history[-1].successor(now=NOW + timedelta(minutes=minute), offsets={}, hidden={}))
    assert version_at(history, NOW - timedelta(seconds=1)) is None
    assert version_at(history, NOW + timedelta(seconds=90)) == history[1]
    assert version_at(reversed(history), NOW + timedelta(days=1)) == history[2]


@given(
    st.dictionaries(
        st.sampled_from(["market.trades", "market.quotes", "ingest.rejects"]),
        st.integers(1, 10**17),
        min_size=1,
    )
)
def test_a_token_is_read_back_as_written(numbers: dict[str, int]) -> None:
    assert parse_token(format_token(numbers)) == numbers


def test_a_token_leaves_out_the_market() -> None:
    assert format_token({"market.trades": 1234, "market.quotes": 987}) == "quotes@987,trades@1234"


@pytest.mark.parametrize(
    "text", ["", "trades", "trades@0", "trades@1,", "trades@-1", "trades@1,trades@2", "a b@1"]
)
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(RecordError):
        parse_token(text)
