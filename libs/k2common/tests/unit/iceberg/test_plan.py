"""Classifying files agrees with the rule that decides row by row."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from k2common.iceberg.plan import Footer, Share, classify
from k2common.versions import Hidden, OffsetRange, Reason, Version

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


@given(
    rows=ROWS,
    named=st.booleans(),
    located=st.booleans(),
    epoch=st.integers(0, 1),
    offsets=st.dictionaries(st.integers(0, 1), st.integers(0, 7)),
    hidden=st.sets(st.sampled_from("ABC")),
)
def test_a_file_is_read_whole_or_left_out_only_if_the_rule_says_so_of_each_row(
    rows: set[Row], named: bool, located: bool, epoch: int, offsets: dict[int, int], hidden: set[str]
) -> None:
    entries = {
        upload: Hidden(
            reason=Reason.LOADING,
            ranges=ranges({row for row in rows if row[0] == upload}) if located else (),
        )
        for upload in hidden
    }
    version = Version(
        table="market.trades",
        number=1,
        committed_at=datetime(2026, 3, 2, tzinfo=UTC),
        schema_id=0,
        epoch=epoch,
        offsets=offsets,
        hidden=entries,
    )
    footer = Footer(ranges=ranges(rows), uploads=frozenset(row[0] for row in rows) if named else None)

    shown = {version.shows(u, epoch=e, partition=p, offset=o) for u, e, p, o in rows}
    share = classify(footer, version)

    if share is Share.ALL:
        assert shown == {True}
    if share is Share.NONE:
        assert shown == {False}
    if not hidden and len(rows) == 1:
        assert share is not Share.SOME


def test_a_file_of_another_engine_is_always_filtered() -> None:
    version = Version(
        table="market.trades",
        number=1,
        committed_at=datetime(2026, 3, 2, tzinfo=UTC),
        schema_id=0,
        epoch=0,
        offsets={0: 10},
    )
    assert classify(Footer(), version) is Share.SOME
