"""A row is taken exactly as it stands, or refused with its line, byte, column and reason."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.encode import RecordEncoder
from k2common.layouts.catalogue import layout_named
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import ParsedChunk, parse
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import avro_schema

HEADER = "ts_event_ns,symbol,venue,price,size,side,trade_id,conditions,colour"
NS = 1_700_000_000_123_456_789


def spec(layout: Layout, **fields: Any) -> UploadSpec:
    known = {
        "upload_id": "U1",
        "dataset": layout.dataset,
        "layout": layout.name,
        "layout_json": layout.canonical_json,
        "source": "test",
        "bytes": 0,
        "sha256": "",
        "received_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return UploadSpec(**{**known, **fields})


def trades(*lines: str | bytes, header: str = HEADER, end: str = "\n", **fields: Any) -> ParsedChunk:
    layout = layout_named("k2", dataset="trades")
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    payload = b"".join(line + end.encode() for line in encoded)
    return parse(
        payload,
        layout=layout,
        header=header,
        first_byte=100,
        first_line=2,
        spec=spec(layout, **fields),
        instruments=None,
    )


def asx(text: str, *, name: str = "asx-trades", filename: str = "7078.csv") -> ParsedChunk:
    layout = layout_named(name, dataset=None)
    row = {
        "venue": "XASX",
        "instrument_id": "7078",
        "symbol": "BHP",
        "valid_from": date(2014, 1, 1),
        "valid_to": date(2014, 12, 31),
    }
    return parse(
        text.encode(),
        layout=layout,
        header=None,
        first_byte=0,
        first_line=1,
        spec=spec(layout, filename=filename),
        instruments=InstrumentIndex(pa.Table.from_pylist([row])),
    )


def row(parsed: ParsedChunk) -> dict[str, Any]:
    (only,) = parsed.rows.to_pylist()
    return dict(only)


def reject(parsed: ParsedChunk) -> dict[str, Any]:
    (only,) = parsed.rejects.to_pylist()
    return dict(only)


def test_a_row_keeps_every_value() -> None:
    found = row(trades(f"{NS},ABC,XNAS,0.00012345,46116860414,Sell,t-1,A B,red"))
    assert found["ts_event_ns"] == NS
    assert found["ts_event"] == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert found["trading_date"] == date(2023, 11, 14)
    assert (found["price"], found["size"]) == (Decimal("0.00012345"), Decimal(46116860414))
    assert (found["side"], found["trade_id"], found["conditions"]) == ("sell", "t-1", ["A", "B"])
    assert found["attributes"] == [("colour", "red")]
    assert (found["upload_id"], found["line"], found["asset_class"]) == ("U1", 2, "other")


@given(
    st.decimals(min_value=0, max_value=10**15, places=12),
    st.sampled_from(["f", "e"]),
)
def test_decimals_are_exact(value: Decimal, form: str) -> None:
    parsed = trades(f"{NS},ABC,XNAS,{value:{form}},1,,,,")
    assert row(parsed)["price"] == value


@pytest.mark.parametrize("text", ["3.844E-5", "6.8581834E7", ".12345", "5.", "+1.5", "007", " 1.5 ", "1.50"])
def test_odd_forms_of_numbers_are_taken_exactly(text: str) -> None:
    assert row(trades(f"{NS},ABC,XNAS,{text},1,,,,"))["price"] == Decimal(text.strip())


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        (f"{NS},ABC,XNAS,1e-13,1,,,,", "price", "NUMBER_OUT_OF_RANGE"),
        (f"{NS},ABC,XNAS,1e17,1,,,,", "price", "NUMBER_OUT_OF_RANGE"),
        (f"{NS},ABC,XNAS,NaN,1,,,,", "price", "NUMBER_INVALID"),
        (f"{NS},ABC,XNAS,,1,,,,", "price", "VALUE_MISSING"),
        (f"{NS},ABC,XNAS,1,-1,,,,", "size", "NUMBER_OUT_OF_RANGE"),
        (f"{NS},ABC,XNAS,1,1,short,,,", "side", "VALUE_UNKNOWN"),
        (f"{NS},,XNAS,1,1,,,,", "symbol", "VALUE_MISSING"),
        (f"{NS},ABC,,1,1,,,,", "venue", "VALUE_MISSING"),
        (",ABC,XNAS,1,1,,,,", "ts_event", "VALUE_MISSING"),
        ("x,ABC,XNAS,1,1,,,,", "ts_event_ns", "NUMBER_INVALID"),
        ("1700000000123456,ABC,XNAS,1,1,,,,", "ts_event_ns", "TIMESTAMP_IMPLAUSIBLE"),
        (f"{NS},ABC,XNAS,1,1,,,", None, "COLUMN_COUNT"),
        (f"{NS},ABC,XNAS,1,1,,,,,x", None, "COLUMN_COUNT"),
        (f'{NS},ABC,XNAS,1,1,,"a"b,,', None, "QUOTING_INVALID"),
        (f"{NS},ABC,XNAS,1,1,,,,".encode() + b"\xff", None, "ENCODING_INVALID"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_taken(
    line: str | bytes, column: str | None, code: str
) -> None:
    good = f"{NS},ABC,XNAS,1,1,,,,"
    parsed = trades(good, line, good)
    found = reject(parsed)
    assert (found["column"], found["code"], found["line"]) == (column, code, 3)
    assert found["byte_offset"] == 100 + len(good) + 1
    text = line if isinstance(line, str) else line.decode("utf8", "backslashreplace")
    assert found["raw"] == text
    assert parsed.rows["line"].to_pylist() == [2, 4]
    assert len(RecordEncoder(avro_schema("trades"), 1).messages(parsed.rows)) == 2
    assert len(RecordEncoder(avro_schema("rejects"), 1).messages(parsed.rejects)) == 1
    assert parsed.errors == {(column, code): 1}
    assert (parsed.rows_read, parsed.rows_accepted, parsed.rows_rejected) == (3, 2, 1)


def test_lines_are_physical_ones() -> None:
    good = f"{NS},ABC,XNAS,1,1,,,,"
    parsed = trades("", good, f'{NS},ABC,XNAS,1,1,,"two\nlines",,', "", good, "bad", good)
    assert parsed.rows["line"].to_pylist() == [3, 4, 7, 9]
    assert parsed.rows["trade_id"].to_pylist() == [None, "two\nlines", None, None]
    assert reject(parsed)["line"] == 8


def test_a_quote_within_a_field_is_a_character() -> None:
    good = f"{NS},ABC,XNAS,1,1,,,,"
    parsed = trades(good, f'{NS},ABC,XNAS,1,1,,5" pipe,,', good)
    assert parsed.rows["trade_id"].to_pylist() == [None, '5" pipe', None]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", ","])
def test_line_ends_and_a_trailing_delimiter_change_nothing(end: str, tail: str) -> None:
    parsed = trades(*[f"{NS},ABC,XNAS,1,1,,,,{tail}"] * 3, end=end)
    assert parsed.rows_accepted == 3
    assert parsed.rows["line"].to_pylist() == [2, 3, 4]


def test_parameters_fill_what_the_file_does_not_say() -> None:
    parsed = trades(f"{NS},1,1", header="ts_event_ns,price,size", symbol="ABC", venue="XNAS", currency="USD")
    found = row(parsed)
    assert (found["symbol"], found["venue"], found["currency"]) == ("ABC", "XNAS", "USD")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-10T10:00:00Z", 1710064800_000000000),
        ("2024-03-10 10:00:00.123456789", 1710064800_123456789),
        ("2024-03-10T10:00:00.5+01:00", 1710061200_500000000),
    ],
)
def test_iso_times(text: str, expected: int) -> None:
    header = "ts_event,symbol,venue,price,size"
    both = trades(f"{text},A,V,1,1", "2024-03-10T00:00:00Z,A,V,1,1", header=header)
    assert both.rows["ts_event_ns"].to_pylist() == [expected, 1710028800_000000000]


def test_a_zone_may_be_given_and_times_it_has_twice_or_never_are_refused() -> None:
    header = "ts_event,symbol,venue,price,size"
    lines = [
        f"{text},A,V,1,1" for text in ("2024-03-10 01:59:59", "2024-03-10 02:30:00", "2024-11-03 01:30:00")
    ]
    parsed = trades(*lines, header=header, timezone="America/New_York")
    assert parsed.rows["ts_event"].to_pylist() == [datetime(2024, 3, 10, 6, 59, 59, tzinfo=UTC)]
    assert parsed.errors == {("ts_event", "TIMESTAMP_AMBIGUOUS"): 2}


def test_asx_trades_are_sydney_time_and_marked_off_market() -> None:
    parsed = asx("03/11/2014,07:57:14.754,36.667,20000,3,X,\r\n03/11/2014,10:00:00.000,36,1,0,,35.5\r\n")
    off, on = parsed.rows.to_pylist()
    assert off["ts_event"] == datetime(2014, 3, 10, 20, 57, 14, 754000, UTC)
    assert (off["trading_date"], off["symbol"], off["flags"]) == (date(2014, 3, 11), "BHP", 32)
    assert off["attributes"] == [("Venue", "X")]
    assert (on["conditions"], on["flags"], on["attributes"]) == (["0"], 0, [("BuyerID", "35.5")])


def test_an_instrument_that_nobody_knows_is_refused() -> None:
    late = asx("03/11/2015,07:57:14.754,36.667,20000,3,X,\n")
    assert reject(late)["code"] == "INSTRUMENT_UNKNOWN"
    other = asx("03/11/2014,07:57:14.754,36.667,20000,3,X,\n", filename="1.csv")
    assert reject(other)["code"] == "INSTRUMENT_UNKNOWN"


def test_a_row_without_its_time_is_refused_for_that_and_not_for_its_instrument() -> None:
    parsed = asx("03/11/2014,07:57:14.754,36.667,20000,3,X,\n03/11/2014,24:57:14,36.667,20000,3,X,\n")
    assert (reject(parsed)["code"], reject(parsed)["line"]) == ("TIMESTAMP_INVALID", 2)
    assert row(parsed)["symbol"] == "BHP"


@pytest.mark.parametrize(
    ("line", "flags"),
    [("37.7,37.73", 0), ("37.7,37.7", 8), ("37.8,37.7", 4), ("37.7,0.0", 16), ("0,37.7", 16)],
)
def test_asx_quotes_of_0_are_none(line: str, flags: int) -> None:
    found = row(asx(f"03/10/2014,05:43:45.676,{line},300,600\n", name="asx-quotes"))
    assert found["flags"] == flags
    assert (found["bid_price"] is None, found["ask_price"] is None) == (line[0] == "0", line.endswith(",0.0"))


def test_an_asx_quote_of_two_zeros_is_no_quote() -> None:
    parsed = asx("03/10/2014,05:43:45.676,0,0.0,300,600\n", name="asx-quotes")
    assert reject(parsed)["code"] == "QUOTE_EMPTY"


def test_ignored_lines_a_byte_order_mark_and_no_last_newline() -> None:
    text = "\ufeff--- NO RECORDS TO REPORT ---\n03/11/2014,07:57:14.754,36.667,20000,3,X,"
    parsed = asx(text)
    assert (parsed.rows_read, parsed.rows["line"].to_pylist()) == (1, [2])
    assert asx("--- NO RECORDS TO REPORT ---\r\n").rows_read == 0
    assert asx("").rows_read == 0


def test_an_event_without_its_time_takes_the_receive_time_and_says_so() -> None:
    layout = layout_named("binance-quotes", dataset=None)
    parsed = parse(
        f"BTCUSDT,{NS},1,2,3,4,u1\n".encode(),
        layout=layout,
        header="symbol,ts_recv,bid_price,bid_size,ask_price,ask_size,update_id",
        first_byte=10,
        first_line=2,
        spec=spec(layout),
        instruments=None,
    )
    found = row(parsed)
    assert (found["ts_event_ns"], found["ts_recv_ns"], found["flags"]) == (NS, NS, 1)


def test_equal_rows_stay_separate() -> None:
    line = f"{NS},ABC,XNAS,1,1,,,,"
    assert trades(*[line] * 5).rows["line"].to_pylist() == [2, 3, 4, 5, 6]


def test_a_quote_has_a_side() -> None:
    layout = layout_named("k2", dataset="quotes")
    text = "".join(f"{NS},A,X,{bid},{ask}\n" for bid, ask in (("1", ""), ("", "2"), ("", ""), ("x", "")))
    parsed = parse(
        text.encode(),
        layout=layout,
        header="ts_event_ns,symbol,venue,bid_price,ask_price",
        first_byte=0,
        first_line=1,
        spec=spec(layout),
        instruments=None,
    )
    assert [row["flags"] for row in parsed.rows.to_pylist()] == [16, 16]
    assert [(row["line"], row["column"], row["code"]) for row in parsed.rejects.to_pylist()] == [
        (3, None, "QUOTE_EMPTY"),
        (4, "bid_price", "NUMBER_INVALID"),
    ]
