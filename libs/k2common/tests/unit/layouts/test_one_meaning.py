"""A cell means the same whatever stands beside it: typed, as text, and record by record."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2common.layouts.model import Layout
from k2common.layouts.parser import parse
from k2common.layouts.upload import UploadSpec

EXAMPLES = max(5, settings().max_examples // 6)
"""Each of them is parsed dozens of times."""
NS = 1_700_000_000_000_000_000
NULLS = ["0", "NA", "+7", "1e3"]
ODD = [
    *(
        "",
        " ",
        "0",
        "0.000",
        "-0",
        "00",
        "+0",
        "+5",
        "5",
        " 5 ",
        "\t5",
        "\u00a05",
        "5.0",
        "007",
        "-1",
        "+-5",
        "+",
    ),
    *("0x10", "0X10", "-0x10", "1e3", "1E-3", "1000", "NA", "NaN", "inf", "1_0", "9682", "9682.000000000000"),
    *("9999999999999999.999999999999", "1.0000000000000", "1." + "0" * 30, "0" * 50 + "1", "1e-13", "1e16"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "7",
        "+7",
    ),
    *("1700000000", "1700000000.123456789", "1700000000.1234567890", "1700000000000000000", "1700000000000"),
    *("2024-03-04T10:00:00Z", "2024-03-04 10:00:00.5", "2262-04-11T23:47:17", "9999-12-31T00:00:00Z"),
    *(
        "2024-02-30T00:00:00Z",
        "2024-03-04",
        "31/04/2024",
        "31/06/2014",
        "29/02/2023",
        "29/02/2024",
        "1/4/2024",
    ),
    *("buy", " B ", "x", "a;b", ";", "a\rb", "a\nb", 'say "x"', "a,b", "\x00", "\ufeffx", "\u2028", "\u0665"),
]
NUMBERS = st.one_of(
    st.decimals(allow_nan=False, places=3).map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.from_regex(r"\A[ +-]?[0-9]{0,3}\.?[0-9]{0,14}([eE][+-]?[0-9]{1,2})?\Z"),
)
CELLS = st.one_of(st.sampled_from(ODD), NUMBERS, st.text(max_size=8))


def number(**more: Any) -> dict[str, Any]:
    return {"kind": "decimal", "column": "v", "negative": True, **more}


def time(form: str, **more: Any) -> dict[str, Any]:
    return {"kind": "time", "ways": [{"columns": ["v"], "format": form}], **more}


RULES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "decimal": ("trades", "price", number()),
    "decimal of nulls": ("quotes", "bid_size", number(nulls=NULLS)),
    "decimal not below 0": ("quotes", "bid_size", number(negative=False, zero_is_null=True)),
    "scaled": ("quotes", "bid_size", number(scale=9)),
    "scaled of nulls": ("quotes", "bid_size", number(scale=2, nulls=NULLS)),
    "integer": ("trades", "sequence", {"kind": "integer", "column": "v"}),
    "integer of nulls": ("trades", "sequence", {"kind": "integer", "column": "v", "nulls": NULLS}),
    **{
        f"{form}{' of nulls' if nulls else ''}": ("trades", "ts_recv", time(form, nulls=nulls))
        for form in ("epoch_ns", "epoch_us", "epoch_ms", "epoch_s", "iso")
        for nulls in ([], NULLS)
    },
    "text": ("trades", "trade_id", {"kind": "text", "column": "v", "nulls": NULLS}),
    "symbol": ("trades", "symbol", {"kind": "text", "column": "v", "nulls": NULLS}),
    "enum": (
        "trades",
        "side",
        {"kind": "enum", "column": "v", "values": {"b": "buy", "buy": "buy"}, "default": "unknown"},
    ),
    "list": ("trades", "conditions", {"kind": "list", "column": "v", "separator": ";"}),
    "date": (
        "instruments",
        "valid_to",
        {"kind": "date", "column": "v", "format": "%d/%m/%Y", "nulls": NULLS},
    ),
}
OTHERS: dict[str, dict[str, Any]] = {
    "trades": {
        "ts_event": {"kind": "time", "ways": [{"columns": ["at"], "format": "epoch_ns"}]},
        "price": {"kind": "decimal", "column": "n"},
        "size": {"kind": "decimal", "column": "n"},
    },
    "quotes": {
        "ts_event": {"kind": "time", "ways": [{"columns": ["at"], "format": "epoch_ns"}]},
        "ask_price": {"kind": "decimal", "column": "n"},
        "quote_id": {"kind": "text", "column": "note"},
    },
    "instruments": {
        "instrument_id": {"kind": "text", "column": "n"},
        "valid_from": {"kind": "date", "column": "day"},
    },
}
COLUMNS = ("at", "day", "n", "note", "v")
GOOD = (str(NS), "2024-01-01", "1", "", "1")


def layout_of(dataset: str, target: str, rule: dict[str, Any], **more: Any) -> Layout:
    document = {
        "name": "one",
        "description": "One rule.",
        "dataset": dataset,
        "header": False,
        "columns": list(COLUMNS),
        "venue": "X",
        "fields": {**OTHERS[dataset], target: rule},
        "plausible_from": "1600-01-01",
        "plausible_to": "9999-12-31",
        **more,
    }
    return Layout.parse(json.dumps(document))


def meanings(layout: Layout, cells: Sequence[str], *neighbours: str) -> list[Any]:
    """What became of each record, whose cells `v` are given; other records follow them."""
    records = [",".join((*GOOD[:-1], _quoted(cell))) for cell in cells]
    data = "".join(f"{line}\n" for line in (*records, *neighbours)).encode()
    spec = UploadSpec(
        upload_id="U",
        dataset=layout.dataset,
        layout=layout.name,
        layout_json="",
        source="s",
        bytes=len(data),
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        symbol="S",
    )
    parsed = parse(data, layout=layout, header=None, first_byte=0, first_line=1, spec=spec, instruments=None)
    found = {row["line"]: [str({**row, "line": 0})] for row in parsed.rows.to_pylist()}
    found |= {row["line"]: [(row["column"], row["code"])] for row in parsed.rejects.to_pylist()}
    return [found[line] for line in sorted(found)][: len(cells)]


def meaning(layout: Layout, cell: str, *neighbours: str) -> Any:
    return meanings(layout, [cell], *neighbours)[0]


def _quoted(cell: str) -> str:
    special = any(char in cell for char in ',"\r\n')
    return '"' + cell.replace('"', '""') + '"' if special or not cell.strip() else cell


NEIGHBOURS = {
    "none": (),
    "clean": (",".join(GOOD),),
    "a word where numbers are": (",".join(("?", "?", "?", "", "?")),),
    "a quote within a field": (",".join((*GOOD[:3], 'a"b', "1")),),
    "a quote that does not match": (",".join((*GOOD[:3], '"a"b', "1")),),
    "one field too few": (",".join(GOOD[:-1]),),
    "hexadecimal digits": (",".join((*GOOD[:3], "0x1f", "1")),),
    "a return alone": (",".join((*GOOD[:3], "a\rb", "1")), "\r"),
}


@pytest.mark.parametrize("name", RULES)
def test_an_odd_cell_means_the_same_beside_any_other(name: str) -> None:
    layout = layout_of(*RULES[name])
    alone = [meaning(layout, cell) for cell in ODD]
    for neighbour, lines in NEIGHBOURS.items():
        assert meanings(layout, ODD, *lines) == alone, neighbour


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=EXAMPLES)
@given(cells=st.lists(CELLS, min_size=1, max_size=6))
def test_a_cell_means_the_same_beside_any_other(name: str, cells: list[str]) -> None:
    layout = layout_of(*RULES[name])
    alone = [meaning(layout, cell) for cell in cells]
    for neighbour, lines in NEIGHBOURS.items():
        assert meanings(layout, cells, *lines) == alone, neighbour


def test_an_attribute_is_the_text_of_its_cell() -> None:
    layout = layout_of("trades", "sequence", {"kind": "integer", "column": "v"}, attributes=["v", "n"])
    alone = [meaning(layout, cell) for cell in ODD]
    for neighbour, lines in NEIGHBOURS.items():
        assert meanings(layout, ODD, *lines) == alone, neighbour


def test_a_long_cell_is_no_fault_beside_a_bad_quote() -> None:
    layout = layout_of("trades", "trade_id", {"kind": "text", "column": "v"})
    cell = "x" * 140_000
    expected = meaning(layout, cell)
    assert "x" * 140_000 in expected[0]
    assert meaning(layout, cell, *NEIGHBOURS["a quote that does not match"]) == expected


VALUES = [
    ("integer", "+5", "'sequence': 5"),
    ("integer", "0x10", ("v", "NUMBER_INVALID")),
    ("integer of nulls", "0", "'sequence': None"),
    ("integer of nulls", "00", "'sequence': None"),
    ("integer of nulls", "7", "'sequence': None"),
    ("decimal of nulls", "0.000", "'bid_size': None"),
    ("decimal of nulls", "1000", "'bid_size': None"),
    ("date", "31/04/2024", ("v", "DATE_INVALID")),
    ("date", "31/06/2014", ("v", "DATE_INVALID")),
    ("date", "29/02/2024", "'valid_to': datetime.date(2024, 2, 29)"),
    ("epoch_s", "+0", "'ts_recv_ns': 0"),
    ("epoch_us", "-9223372036854775808", ("v", "TIMESTAMP_IMPLAUSIBLE")),
    ("epoch_ns", "9223372036854775807", ("v", "TIMESTAMP_IMPLAUSIBLE")),
    ("iso", "2262-04-09T23:59:59Z", "'ts_recv_ns': 9223199999000000000"),
    ("iso", "2262-04-10T00:00:00Z", ("v", "TIMESTAMP_IMPLAUSIBLE")),
    ("iso", "2262-04-11T23:47:00+23:59", ("v", "TIMESTAMP_IMPLAUSIBLE")),
    ("iso", "9999-12-31T00:00:00Z", ("v", "TIMESTAMP_INVALID")),
]


@pytest.mark.parametrize(("name", "cell", "expected"), VALUES)
def test_what_an_odd_cell_means(name: str, cell: str, expected: Any) -> None:
    (found,) = meaning(layout_of(*RULES[name]), cell)
    assert found == expected if isinstance(expected, tuple) else expected in found
