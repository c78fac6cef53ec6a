"""What a layout can say, and that each built-in one reads the file that its vendor documents."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from k2common.errors import RecordError, SetupError
from k2common.layouts.catalogue import Catalogue, builtin_layouts, layout_named
from k2common.layouts.checks import LayoutError
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import ParsedChunk, parse
from k2common.layouts.upload import UploadSpec

SECOND = 1_000_000_000
NS = 1_700_000_000 * SECOND


def trades_layout(**changes: Any) -> dict[str, Any]:
    document = {
        "name": "mine",
        "description": "A vendor's trades.",
        "dataset": "trades",
        "header": True,
        "venue": "XNAS",
        "fields": {
            "symbol": {"kind": "text", "column": "sym"},
            "ts_event": {"kind": "time", "ways": [{"columns": ["at"], "format": "epoch_ns"}]},
            "price": {"kind": "decimal", "column": "px"},
            "size": {"kind": "decimal", "column": "qty"},
        },
    }
    return {**document, **changes}


def with_fields(**rules: Any) -> dict[str, Any]:
    document = trades_layout()
    return {**document, "fields": {**document["fields"], **rules}}


def read(
    layout: Layout | dict[str, Any],
    text: str | bytes,
    *,
    instruments: InstrumentIndex | None = None,
    **given: Any,
) -> ParsedChunk:
    known = layout if isinstance(layout, Layout) else Layout.parse(json.dumps(layout))
    data = text if isinstance(text, bytes) else text.encode(known.encoding)
    header = None
    if known.header:
        first, _, data = data.partition(b"\n")
        header = first.decode(known.encoding)
    spec = UploadSpec(
        upload_id="U1",
        dataset=known.dataset,
        layout=known.name,
        layout_json=known.canonical_json,
        source="test",
        bytes=len(data),
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        **given,
    )
    return parse(
        data, layout=known, header=header, first_byte=0, first_line=1, spec=spec, instruments=instruments
    )


def rows(parsed: ParsedChunk) -> list[dict[str, Any]]:
    assert parsed.rows_read == parsed.rows_accepted + parsed.rows_rejected + parsed.rows_filtered
    found: list[dict[str, Any]] = parsed.rows.to_pylist()
    return found


def codes(parsed: ParsedChunk) -> list[tuple[str | None, str]]:
    return [(row["column"], row["code"]) for row in parsed.rejects.to_pylist()]


INSTRUMENTS = InstrumentIndex(
    pa.Table.from_pylist(
        [
            {
                "venue": "XASX",
                "instrument_id": number,
                "symbol": symbol,
                "valid_from": date(2008, 1, 1),
                "valid_to": date(2014, 3, 31),
            }
            for number, symbol in (("7078", "BHP"), ("7181", "DVN"))
        ]
    )
)


def test_an_integer_scale_moves_the_point_and_nothing_else() -> None:
    layout = with_fields(price={"kind": "decimal", "column": "px", "scale": 9, "nulls": [str(2**63 - 1)]})
    found = read(
        layout,
        "sym,at,px,qty\n"
        + "".join(f"A,{NS},{price},5\n" for price in (16950000001, 2**63 - 1, 1.5, 2**64, 1)),
    )
    assert [row["price"] for row in rows(found)] == [Decimal("16.950000001"), Decimal("0.000000001")]
    assert codes(found) == [
        ("px", "VALUE_MISSING"),
        ("px", "NUMBER_INVALID"),
        ("px", "NUMBER_OUT_OF_RANGE"),
    ]
    fine = with_fields(price={"kind": "decimal", "column": "px", "scale": 18})
    assert codes(read(fine, f"sym,at,px,qty\nA,{NS},1,5\n")) == [("px", "NUMBER_OUT_OF_RANGE")]


@pytest.mark.parametrize("text", ["NA", "-1", "x"])
def test_a_sentinel_is_no_value(text: str) -> None:
    layout = with_fields(
        trade_id={"kind": "text", "column": "id", "nulls": ["NA", "-1", "x"]},
        sequence={"kind": "integer", "column": "seq", "nulls": ["NA", "-1", "x"]},
    )
    found = rows(read(layout, f"sym,at,px,qty,id,seq\nA,{NS},1,5,{text},{text}\nB,{NS},1,5,7,8\n"))
    assert [(row["trade_id"], row["sequence"]) for row in found] == [(None, None), ("7", 8)]


def test_rows_that_the_layout_leaves_out_are_counted_and_not_judged() -> None:
    layout = trades_layout(where={"action": ["T", "F"]})
    text = f"sym,at,px,qty,action\nA,{NS},1,5,T\nA,{NS},bad,5,C\nA,{NS},bad,5,F\nA,short\nB,{NS},2,5,F\n"
    found = read(layout, text)
    assert [row["symbol"] for row in rows(found)] == ["A", "B"]
    assert [row["line"] for row in rows(found)] == [1, 5]
    assert (found.rows_read, found.rows_filtered) == (5, 1)
    assert codes(found) == [("px", "NUMBER_INVALID"), (None, "COLUMN_COUNT")]


@pytest.mark.parametrize(("unknown", "attributes"), [("attributes", [("colour", "red")]), ("ignore", [])])
def test_columns_that_no_rule_names_are_kept_or_ignored(unknown: str, attributes: list[Any]) -> None:
    layout = trades_layout(unknown_columns=unknown)
    (row,) = rows(read(layout, f"sym,at,px,qty,colour\nA,{NS},1,5,red\n"))
    assert row["attributes"] == attributes


def test_the_layout_names_the_encoding() -> None:
    layout = {**with_fields(trade_id={"kind": "text", "column": "id"}), "encoding": "cp1252"}
    text = f'sym,at,px,qty,id\nA,{NS},1,5,caf\xe9 €\nB,{NS},1,5,"ö\n1"\n'
    assert [row["trade_id"] for row in rows(read(layout, text))] == ["café €", "ö\n1"]
    broken = f"sym,at,px,qty,id\nA,{NS},1,5,".encode() + b"\x81\n" + f"B,{NS},1,5,\n".encode()
    found = read(layout, broken)
    assert (codes(found), [row["symbol"] for row in rows(found)]) == ([(None, "ENCODING_INVALID")], ["B"])


@pytest.mark.parametrize(("rule", "utc_hour"), [("earlier", 15), ("later", 16), ("refuse", None)])
def test_the_hour_that_comes_twice_is_what_the_layout_says(rule: str, utc_hour: int | None) -> None:
    layout = {
        **with_fields(ts_event={"kind": "time", "ways": [{"columns": ["at"], "format": "iso"}]}),
        "timezone": "Australia/Sydney",
        "ambiguous_times": rule,
    }
    # Summer time ended on 2014-04-06 at 03:00; on 2014-10-05 there was no 02:30.
    text = "sym,at,px,qty\nA,2014-04-06T02:30:00,1,5\nA,2014-04-06T03:00:00,1,5\nA,2014-10-05T02:30:00,1,5\n"
    found = read(layout, text)
    hours = [row["ts_event"].hour for row in rows(found)]
    assert hours == ([17] if utc_hour is None else [utc_hour, 17])
    assert codes(found) == [("at", "TIMESTAMP_AMBIGUOUS")] * (3 - len(hours))


def test_seconds_have_nine_digits_and_no_more() -> None:
    layout = with_fields(ts_event={"kind": "time", "ways": [{"columns": ["at"], "format": "epoch_s"}]})
    found = read(
        layout,
        "sym,at,px,qty\nA,1700000000.123456789,1,5\nA,1700000000,1,5\nA,1700000000.1234567891,1,5\nA,x,1,5\n",
    )
    assert [row["ts_event_ns"] for row in rows(found)] == [NS + 123_456_789, NS]
    assert codes(found) == [("at", "NUMBER_OUT_OF_RANGE"), ("at", "NUMBER_INVALID")]


def test_a_symbol_comes_from_the_files_name() -> None:
    layout = with_fields(symbol={"kind": "filename", "pattern": r"^(?P<value>[A-Z]+)_\d+"})
    (row,) = rows(read(layout, f"at,px,qty\n{NS},1,5\n", filename="inbox/ABC_20240101.csv"))
    assert row["symbol"] == "ABC"
    assert codes(read(layout, f"at,px,qty\n{NS},1,5\n", filename="abc.csv")) == [("symbol", "VALUE_MISSING")]


def test_dividends_are_of_the_company_that_the_id_was_on_that_day() -> None:
    text = (
        "company id,declared date,ex_date,record_date,pay_date,net amount,gross amount,currency type\n"
        "7078,09/25/2013,03/03/2014,03/07/2014,03/26/2014,0.59,0.842857,USD\n"
        "7458,01/15/2014,03/05/2014,03/12/2014,04/10/2014,1.2014,1.716286,AUD\n"
        "7078,09/25/2014,04/03/2014,03/07/2014,03/26/2014,0.59,0.842857,USD\n"
    )
    found = read(layout_named("asx-dividends", dataset=None), text, instruments=INSTRUMENTS)
    (row,) = rows(found)
    assert (row["symbol"], row["kind"], row["ex_date"], row["amount"], row["currency"]) == (
        "BHP",
        "dividend",
        date(2014, 3, 3),
        Decimal("0.59"),
        "USD",
    )
    assert dict(row["attributes"])["gross amount"] == "0.842857"
    assert codes(found) == [("symbol", "INSTRUMENT_UNKNOWN")] * 2


def test_an_unknown_id_may_stay_the_symbol_where_the_layout_says_so() -> None:
    document = json.loads(layout_named("asx-splits", dataset=None).canonical_json)
    document["fields"]["symbol"]["unknown"] = "keep"
    text = "company id,effective date,ratio\n7181,03/03/2014,2\n9999,03/03/2014,0.5\n"
    found = read(document, text, instruments=INSTRUMENTS)
    assert [(row["symbol"], row["ratio"]) for row in rows(found)] == [
        ("DVN", Decimal(2)),
        ("9999", Decimal("0.5")),
    ]


VENDORS = [
    (
        "databento-trades",
        "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,symbol\n"
        "1695988800527428009,1695988800527194909,0,19,7051,T,A,0,16950000000,5,130,206685,11853,GME\n"
        "1695988800527428009,1695988800527194909,0,19,7051,C,A,0,9223372036854775807,5,130,206685,11853,GME\n",
        {"venue": "XNAS"},
        {
            "symbol": "GME",
            "price": Decimal("16.95"),
            "side": "sell",
            "sequence": 11853,
            "ts_event_ns": 1695988800527194909,
        },
        1,
    ),
    (
        "tardis-trades",
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "deribit,BTC-PERPETUAL,1585699200245000,1585699200258635,80031161,sell,6421,10\n",
        {},
        {"venue": "deribit", "symbol": "BTC-PERPETUAL", "side": "sell", "ts_event_ns": 1585699200245000000},
        0,
    ),
    (
        "tardis-quotes",
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
        "deribit,X,1585699200245000,1585699200258635,5,6421.5,,\n",
        {},
        {"ask_price": Decimal("6421.5"), "bid_price": None, "flags": 16},
        0,
    ),
    (
        "binance-archive-trades",
        "4359013812,93576.00000000,0.00113000,105.74088000,1735689600005338,False,True\n",
        {"filename": "BTCUSDT-trades-2025-01-01.csv"},
        {"symbol": "BTCUSDT", "side": "buy", "ts_event_ns": 1735689600005338000, "venue": "BINANCE"},
        0,
    ),
    (
        "binance-archive-trades-ms",
        "51175358,17.80180000,5.69000000,101.29224200,1583709433583,True,True\n",
        {"filename": "LINKUSDT-trades-2020-03.csv"},
        {"symbol": "LINKUSDT", "side": "sell", "ts_event_ns": 1583709433583000000},
        0,
    ),
    (
        "binance-archive-klines",
        "1735689600000000,93576.0,93610.9,93537.5,93610.9,8.21,1735689659999999,768978.1,2631,3.9,368,0\n",
        {"filename": "BTCUSDT-1m-2025-01-01.csv"},
        {
            "symbol": "BTCUSDT",
            "timeframe": "1m",
            "high": Decimal("93610.9"),
            "trade_count": 2631,
            "vwap": None,
        },
        0,
    ),
    (
        "kaiko-trades",
        "id,exchange,symbol,date,price,amount,sell\n1,bw,btcusd_perp,1676246400344,21779.5,402,true\n",
        {},
        {"venue": "bw", "symbol": "btcusd_perp", "side": "sell", "ts_event_ns": 1676246400344000000},
        0,
    ),
    (
        "k2",
        "symbol,venue,ts_event,timeframe,open,high,low,close,volume,colour\n"
        "A,X,2024-01-01T00:00:00Z,1Day,1,3,0.5,2,100,red\n",
        {"dataset": "bars"},
        {"timeframe": "1Day", "close": Decimal(2), "trading_date": date(2024, 1, 1)},
        0,
    ),
    (
        "k2",
        "symbol,venue,kind,ex_date,ratio\nA,X,Split,2024-01-01,2\n",
        {"dataset": "corporate_actions"},
        {"kind": "split", "ratio": Decimal(2), "amount": None},
        0,
    ),
]


@pytest.mark.parametrize(("name", "text", "given", "expected", "filtered"), VENDORS)
def test_a_vendors_file_is_read_as_the_vendor_documents_it(
    name: str, text: str, given: dict[str, Any], expected: dict[str, Any], filtered: int
) -> None:
    parameters = dict(given)
    found = read(layout_named(name, dataset=parameters.pop("dataset", None)), text, **parameters)
    (row,) = rows(found)
    assert {key: row[key] for key in expected} == expected
    assert found.rows_filtered == filtered


def test_a_layout_of_another_vendor_says_where_its_format_is_documented() -> None:
    ours = ("k2", "asx-", "binance-trades", "binance-quotes")
    for layout in builtin_layouts():
        assert layout.name.startswith(ours) or (layout.citation or "").startswith("https://"), layout.name


FAULTS = [
    (with_fields(price={"kind": "decimal", "colum": "px"}), "/fields/price/colum"),
    (with_fields(price={"kind": "decimal", "colum": "px"}), "/fields/price/column"),
    (with_fields(price={"kind": "money", "column": "px"}), "/fields/price"),
    (with_fields(price={"kind": "text", "column": "px"}), "/fields/price/kind"),
    (with_fields(colour={"kind": "text", "column": "px"}), "/fields/colour"),
    (
        with_fields(side={"kind": "enum", "column": "s", "values": {"b": "bid"}, "default": "buy"}),
        "/fields/side/values/b",
    ),
    (with_fields(symbol={"kind": "filename", "pattern": "("}), "/fields/symbol/pattern"),
    (with_fields(symbol={"kind": "filename", "pattern": "x"}), "/fields/symbol/pattern"),
    (
        with_fields(ts_event={"kind": "time", "ways": [{"columns": ["a", "b"], "format": "iso"}]}),
        "/fields/ts_event/ways/0/format",
    ),
    (trades_layout(timezone="Mars"), "/timezone"),
    (trades_layout(timezone="Factory"), "/timezone"),
    (
        with_fields(conditions={"kind": "list", "column": "c", "separator": ""}),
        "/fields/conditions/separator",
    ),
    (with_fields(side={"kind": "constant", "value": "bid"}), "/fields/side/value"),
    (
        with_fields(
            ts_event={
                "kind": "time",
                "ways": [{"columns": ["a", "b"], "format": "date_time", "date_format": "%H:%M"}],
            }
        ),
        "/fields/ts_event/ways/0/date_format",
    ),
    (trades_layout(encoding="utf-16"), "/encoding"),
    (trades_layout(columns=["a"]), "/columns"),
    (trades_layout(header=False, columns=["sym", "at", "px"]), "/fields/size"),
    ({**trades_layout(), "fields": {}}, "/fields"),
    (
        {**trades_layout(dataset="quotes"), "fields": {"ts_event": trades_layout()["fields"]["ts_event"]}},
        "/fields",
    ),
    ([], ""),
]


@pytest.mark.parametrize(("document", "place"), FAULTS)
def test_a_fault_of_a_layout_is_named_by_its_json_pointer(document: Any, place: str) -> None:
    with pytest.raises(LayoutError) as error:
        Layout.parse(json.dumps(document))
    assert place in [fault.pointer for fault in error.value.faults]


def test_text_that_is_no_json_is_a_fault_of_the_whole() -> None:
    with pytest.raises(LayoutError) as error:
        Layout.parse("{")
    assert [fault.pointer for fault in error.value.faults] == [""]


def test_a_folder_adds_layouts_and_a_bad_file_in_it_stops_the_service(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(trades_layout()))
    catalogue = Catalogue.with_folder(tmp_path)
    assert catalogue.named("mine", dataset="trades").venue == "XNAS"
    assert catalogue.named("k2", dataset="bars").dataset == "bars"
    with pytest.raises(RecordError, match="there are"):
        catalogue.named("other", dataset=None)
    (tmp_path / "again.json").write_text(json.dumps(trades_layout()))
    with pytest.raises(SetupError, match=r"mine\.json: there is a layout mine"):
        Catalogue.with_folder(tmp_path)
    (tmp_path / "again.json").write_text("{")
    with pytest.raises(SetupError, match=r"again\.json"):
        Catalogue.with_folder(tmp_path)
