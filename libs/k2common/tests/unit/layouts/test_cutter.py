"""Chunks hold whole records, together they are the file, and each can be cut again from its start."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.errors import RecordError
from k2common.layouts import cutter
from k2common.layouts.catalogue import builtin_layouts, layout_named
from k2common.layouts.cutter import CutPosition, cut, read_header
from k2common.layouts.model import Layout
from k2common.layouts.records import find_records

CELLS = st.text(st.sampled_from('ab,"\n'), max_size=6)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=12)


def written(rows: list[list[str]], *, last_newline: bool) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    text = out.getvalue()
    return (text if last_newline else text.removesuffix("\n")).encode()


@given(ROWS, st.booleans(), st.integers(1, 40))
def test_chunks_are_whole_records_and_make_up_the_file(
    rows: list[list[str]], last_newline: bool, chunk_bytes: int
) -> None:
    data = written(rows, last_newline=last_newline)
    cuts = list(cut(io.BytesIO(data), CutPosition(), delimiter=",", chunk_bytes=chunk_bytes))
    assert b"".join(c.payload for c in cuts) == data
    read = [row for c in cuts for row in csv.reader(io.StringIO(c.payload.decode(), newline=""))]
    assert read == rows
    for n, one in enumerate(cuts):
        assert data[one.start.byte :].startswith(one.payload)
        assert one.start.line == 1 + data[: one.start.byte].count(b"\n")
        assert list(cut(io.BytesIO(data), one.start, delimiter=",", chunk_bytes=chunk_bytes)) == cuts[n:]


@given(ROWS)
def test_records_are_those_of_the_csv_module(rows: list[list[str]]) -> None:
    data = written(rows, last_newline=True)
    records = find_records(data, ",")
    spans = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    found = [next(csv.reader(io.StringIO(data[a:b].decode(), newline=""))) for a, b in spans]
    assert found == rows
    assert records.lines.tolist() == [data[:start].count(b"\n") for start in records.starts.tolist()]


def test_a_record_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutter, "RECORD_BYTES", 100)
    with pytest.raises(RecordError, match="line 2 is longer"):
        list(cut(io.BytesIO(b"a\n" + b"x" * 300), CutPosition(), delimiter=",", chunk_bytes=50))


def test_the_header_says_where_the_rows_begin() -> None:
    layout = layout_named("k2", dataset="trades")
    found = read_header(io.BytesIO(b"\xef\xbb\xbf\r\nts_event,price, size,\r\n0,1,2,\r\n"), layout)
    assert found is not None
    assert list(found.names) == ["ts_event", "price", "size"]
    assert found.after == CutPosition(byte=28, line=3)
    assert read_header(io.BytesIO(b""), layout) is None


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("price", "'size' is missing"),
        ("price,size,size", "stands twice"),
        ("\xe9,price", "not UTF-8"),
        ("price,size", "a time is missing"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: str, fault: str) -> None:
    with pytest.raises(RecordError, match=fault):
        read_header(io.BytesIO(header.encode("latin-1") + b"\n"), layout_named("k2", dataset="trades"))


def test_a_column_that_a_vendors_layout_does_not_know_is_refused() -> None:
    header = b"symbol,ts_recv,bid_price,bid_size,ask_price,ask_size,update_id,extra\n"
    with pytest.raises(RecordError, match="'extra' is not known"):
        read_header(io.BytesIO(header), layout_named("binance-quotes", dataset=None))


def test_layouts_are_data_that_reads_back_equal() -> None:
    assert len({(layout.name, layout.dataset) for layout in builtin_layouts()}) == 20
    for layout in builtin_layouts():
        assert Layout.parse(layout.canonical_json) == layout


@pytest.mark.parametrize(
    ("name", "dataset", "fault"),
    [("asx", None, "there is no layout"), ("k2", None, "say which"), ("asx-trades", "quotes", "for trades")],
)
def test_a_layout_that_is_not_there_is_named(name: str, dataset: str | None, fault: str) -> None:
    with pytest.raises(RecordError, match=fault):
        layout_named(name, dataset=dataset)


def test_a_layout_at_fault_says_where() -> None:
    document = json.loads(layout_named("asx-trades", dataset=None).canonical_json)
    with pytest.raises(RecordError, match="timezone"):
        Layout.parse(json.dumps({**document, "timezone": "Sydney"}))
