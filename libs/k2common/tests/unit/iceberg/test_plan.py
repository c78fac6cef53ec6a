"""Classifying files agrees with the rule that decides row by row."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from k2common.iceberg.reading.plan import FileCoverage, Footer, classify, classify_without
from k2common.versions.hidden import HiddenUpload, OffsetRange, Reason
from k2common.versions.version import Version

Row = tuple[str, int, int, int]
ROWS = st.sets(
    st.tuples(st.sampled_from("AB"), st.integers(0, 1), st.integers(0, 1), st.integers(0, 6)),
    min_size=1,
    max_size=8,
)


def ranges(rows: set[Row]) -> tuple[OffsetRange, ...]:
    places: dict[tuple[int, int], list[int]] = {}
    for _, epoch, partition, offset in rows:
        places.setdefault((epoch, partition), []).append(offset)
    return tuple(
        OffsetRange(epoch=epoch, partition=partition, first=min(offsets), end=max(offsets) + 1)
        for (epoch, partition), offsets in sorted(places.items())
    )


OFFSETS = st.dictionaries(st.integers(0, 1), st.integers(0, 7))
HIDDEN = st.sets(st.sampled_from("ABC"))


def version_of(
    rows: set[Row], *, epoch: int, offsets: dict[int, int], hidden: set[str], located: bool
) -> Version:
    entries = {
        upload: HiddenUpload(
            reason=Reason.LOADING,
            ranges=ranges({row for row in rows if row[0] == upload}) if located else (),
        )
        for upload in hidden
    }
    return Version(
        table="market.trades",
        number=1,
        committed_at=datetime(2026, 3, 2, tzinfo=UTC),
        schema_id=0,
        epoch=epoch,
        offsets=offsets,
        hidden=entries,
    )


def footer_of(rows: set[Row], *, named: bool) -> Footer:
    return Footer(ranges=ranges(rows), uploads=frozenset(row[0] for row in rows) if named else None)


@given(
    rows=ROWS,
    named=st.booleans(),
    located=st.booleans(),
    epoch=st.integers(0, 1),
    offsets=OFFSETS,
    hidden=HIDDEN,
)
def test_a_file_is_read_whole_or_left_out_only_if_the_rule_says_so_of_each_row(
    rows: set[Row], named: bool, located: bool, epoch: int, offsets: dict[int, int], hidden: set[str]
) -> None:
    version = version_of(rows, epoch=epoch, offsets=offsets, hidden=hidden, located=located)
    footer = footer_of(rows, named=named)

    shown = {version.shows(u, epoch=e, partition=p, offset=o) for u, e, p, o in rows}
    share = classify(footer, version)

    if share is FileCoverage.ALL:
        assert shown == {True}
    if share is FileCoverage.NONE:
        assert shown == {False}
    if not hidden and len(rows) == 1:
        assert share is not FileCoverage.SOME


@given(
    rows=ROWS,
    named=st.booleans(),
    located=st.booleans(),
    epochs=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    offsets=st.tuples(OFFSETS, OFFSETS),
    hidden=st.tuples(HIDDEN, HIDDEN),
)
def test_a_file_gives_a_difference_whole_or_not_at_all_only_if_the_rule_says_so_of_each_row(
    rows: set[Row],
    named: bool,
    located: bool,
    epochs: tuple[int, int],
    offsets: tuple[dict[int, int], dict[int, int]],
    hidden: tuple[set[str], set[str]],
) -> None:
    version, without = (
        version_of(rows, epoch=epochs[n], offsets=offsets[n], hidden=hidden[n], located=located)
        for n in (0, 1)
    )
    share = classify_without(footer_of(rows, named=named), version, without)

    new = {
        version.shows(u, epoch=e, partition=p, offset=o)
        and not without.shows(u, epoch=e, partition=p, offset=o)
        for u, e, p, o in rows
    }
    if share is FileCoverage.ALL:
        assert new == {True}
    if share is FileCoverage.NONE:
        assert new == {False}
    if len(rows) == 1 and named:
        assert share is not FileCoverage.SOME


def test_what_both_versions_hide_alike_is_in_no_difference() -> None:
    rows = {("A", 0, 0, 0), ("B", 0, 0, 1)}
    before = version_of(rows, epoch=0, offsets={0: 2}, hidden={"A"}, located=True)
    after = version_of(rows, epoch=0, offsets={0: 7}, hidden={"A"}, located=True)
    assert classify_without(footer_of(rows, named=False), after, before) is FileCoverage.NONE


def test_a_file_of_another_engine_is_always_filtered() -> None:
    version = Version(
        table="market.trades",
        number=1,
        committed_at=datetime(2026, 3, 2, tzinfo=UTC),
        schema_id=0,
        epoch=0,
        offsets={0: 10},
    )
    assert classify(Footer(), version) is FileCoverage.SOME
