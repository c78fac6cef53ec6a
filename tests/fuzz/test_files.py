"""Any file at all: each record is taken as the reference takes it, or refused as the reference refuses it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.encode import RecordEncoder
from k2common.layouts.cutter import CutPosition, cut, read_header
from k2common.layouts.model import Layout
from k2common.layouts.parser import parse
from k2common.layouts.upload import UploadSpec
from k2common.schemas.datasets import avro_schema

from tests.fuzz import reference

TRADES = avro_schema("trades")
FRAMING = 5
SIDES = {"buy": "buy", "b": "buy", "sell": "sell"}
PLAIN = {
    "name": "plain",
    "description": "A header, times of ISO 8601, attributes.",
    "dataset": "trades",
    "header": True,
    "venue": "X",
    "unknown_columns": "attributes",
    "fields": {
        "symbol": {"kind": "text", "column": "symbol", "required": True},
        "ts_event": {"kind": "time", "ways": [{"columns": ["ts"], "format": "iso"}]},
        "price": {"kind": "decimal", "column": "price"},
        "size": {"kind": "decimal", "column": "size"},
        "side": {"kind": "enum", "column": "side", "values": SIDES, "default": "unknown"},
        "sequence": {"kind": "integer", "column": "seq"},
    },
}
LOCAL = {
    "name": "local",
    "description": "No header, Sydney time in two columns, a point to move, words for nothing.",
    "dataset": "trades",
    "header": False,
    "columns": ["day", "time", "px", "qty", "id"],
    "timezone": "Australia/Sydney",
    "venue": "X",
    "fields": {
        "ts_event": {
            "kind": "time",
            "ways": [{"columns": ["day", "time"], "format": "date_time", "date_format": "%m/%d/%Y"}],
        },
        "price": {"kind": "decimal", "column": "px", "scale": 4, "nulls": ["-1"]},
        "size": {"kind": "decimal", "column": "qty"},
        "trade_id": {"kind": "text", "column": "id", "nulls": ["NA"]},
    },
}
FILTERED = {
    "name": "filtered",
    "description": "Semicolons, an encoding of Windows, nanoseconds, rows that are left out.",
    "dataset": "trades",
    "header": True,
    "delimiter": ";",
    "encoding": "cp1252",
    "venue": "X",
    "fields": {
        "symbol": {"kind": "text", "column": "symbol", "required": True},
        "ts_event": {"kind": "time", "ways": [{"columns": ["ns"], "format": "epoch_ns"}]},
        "price": {"kind": "decimal", "column": "price"},
        "size": {"kind": "decimal", "column": "size"},
    },
    "where": {"kind": ["T", "é"]},
}


def plain_row(cells: dict[str, str]) -> dict[str, Any]:
    if not cells["symbol"]:
        raise reference.Refused
    return {
        "symbol": cells["symbol"],
        "ts_event_ns": reference.nanoseconds(cells["ts"], "UTC"),
        "price": reference.decimal(cells["price"]),
        "size": reference.decimal(cells["size"]),
        "side": reference.choice(cells["side"], SIDES),
        "sequence": reference.integer(cells["seq"]),
        "attributes": {"note": cells["note"]} if cells["note"] else {},
    }


def local_row(cells: dict[str, str]) -> dict[str, Any]:
    day = cells["day"].strip()
    month_day_year = day.split("/")
    if len(month_day_year) != 3:
        raise reference.Refused
    month, date, year = month_day_year
    return {
        "symbol": "S",
        "ts_event_ns": reference.nanoseconds(f"{year}-{month}-{date}T{cells['time']}", "Australia/Sydney"),
        "price": reference.decimal("" if cells["px"] == "-1" else cells["px"], scale=4),
        "size": reference.decimal(cells["qty"]),
        "trade_id": None if cells["id"] in ("", "NA") else cells["id"],
    }


def filtered_row(cells: dict[str, str]) -> dict[str, Any]:
    at = reference.integer(cells["ns"])
    if not cells["symbol"] or at is None:
        raise reference.Refused
    return {
        "symbol": cells["symbol"],
        "ts_event_ns": reference.plausible(at),
        "price": reference.decimal(cells["price"]),
        "size": reference.decimal(cells["size"]),
    }


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A layout, what its rows are, and how its good and odd records look."""

    layout: Layout
    row: Callable[[dict[str, str]], dict[str, Any]]
    cells: tuple[st.SearchStrategy[str], ...]
    header: tuple[str, ...] = ()
    wanted: Callable[[dict[str, str]], bool] | None = None


GOOD_NUMBERS = st.sampled_from(
    ["1", "0.00012345", "3.844E-5", "6.8581834E7", ".12345", "5.", "+1.5", "007.10"]
)
ODD_NUMBERS = st.sampled_from(
    [
        *("", " 2.5 ", "NaN", "inf", "-1", "1e17", "9999999999999999.999999999999", "0.1234567890123"),
        *("1e-13", "1,5", "0x10", "1_0", "--1", "1e", ".", "1e999", "12345678901234567890"),
    ]
)
NUMBERS = st.one_of(GOOD_NUMBERS, GOOD_NUMBERS, GOOD_NUMBERS, ODD_NUMBERS)
WHOLE = st.one_of(
    st.integers(0, 10**9).map(str),
    st.sampled_from(["", "1.5", "9223372036854775807", "9223372036854775808", "-5", "x", " 7 ", "0012"]),
)
ISO_TIMES = st.one_of(
    st.builds(
        lambda second, digits, fraction, zone: f"2024-03-04T14:30:{second:02}{fraction[:digits]}{zone}",
        st.integers(0, 59),
        st.integers(2, 10),
        st.just(".123456789"),
        st.sampled_from(["", "Z", "+05:30", "-04:00"]),
    ),
    st.sampled_from(
        [
            *("", "2024-02-30T00:00:00", "2024-03-04 14:30:00", "1969-12-31T23:59:59Z"),
            *("2024-03-04T25:00:00", "2024-03-04T14:30:00.1234567890", "yesterday"),
            *("2100-01-01T00:00:00Z", "2024-03-04T14:30"),
        ]
    ),
)
CLOCKS = st.sampled_from(
    ["10:00:00", "02:30:00.5", "02:59:59.999999999", "03:00:00", "23:59:59.123", "", "24:00:00", "10:00", "x"]
)
DAYS = st.sampled_from(
    ["03/10/2014", "04/06/2014", "10/05/2014", "13/01/2014", "", "2014-03-10", "02/29/2012"]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            "A",
            "BHP",
            "",
            "NA",
            'say "x"',
            "a,b;c",
            "line\nbreak",
            'q"uo"te\nand, break"',
            "tab\there",
            "é",
            "nul\0",
        ]
    ),
    st.text(st.characters(codec="cp1252", exclude_characters="\r\x1a"), max_size=8),
    st.just("long " * 700),
)
SIDE_WORDS = st.sampled_from(["buy", "B", "SELL", "", "sideways", " b "])
NANOSECONDS = st.one_of(
    st.integers(1_500_000_000 * 10**9, 1_700_000_000 * 10**9).map(str),
    st.sampled_from(["", "1700000000", "x", "1.7e18", "9223372036854775808"]),
)

KINDS = [
    Kind(
        layout=Layout.parse(json.dumps(PLAIN)),
        row=plain_row,
        cells=(TEXTS, ISO_TIMES, NUMBERS, NUMBERS, SIDE_WORDS, WHOLE, TEXTS),
        header=("symbol", "ts", "price", "size", "side", "seq", "note"),
    ),
    Kind(
        layout=Layout.parse(json.dumps(LOCAL)),
        row=local_row,
        cells=(DAYS, CLOCKS, WHOLE, NUMBERS, TEXTS),
    ),
    Kind(
        layout=Layout.parse(json.dumps(FILTERED)),
        row=filtered_row,
        cells=(TEXTS, NANOSECONDS, NUMBERS, NUMBERS, st.sampled_from(["T", "é", "C", ""])),
        header=("symbol", "ns", "price", "size", "kind"),
        wanted=lambda cells: cells["kind"] in ("T", "é"),
    ),
]


@st.composite
def files(draw: st.DrawFn) -> tuple[Kind, bytes]:
    kind = draw(st.sampled_from(KINDS))
    delimiter, encoding = kind.layout.delimiter, kind.layout.encoding
    end = draw(st.sampled_from(["\n", "\r\n"]))
    out = [reference.BOM] if encoding == "utf-8" and draw(st.booleans()) else []
    if kind.header:
        out.append((delimiter.join(kind.header) + end).encode())
    for _ in range(draw(st.integers(0, 8))):
        cells = [draw(cell) for cell in kind.cells]
        odd = draw(st.integers(0, 11))
        if odd == 0:
            cells.pop()
        elif odd == 1:
            cells.append(draw(st.sampled_from(["", "more"])))
        quoting = draw(st.sampled_from(["needed", "all", "wrong"] if odd == 2 else ["needed", "all"]))
        record = delimiter.join(_quoted(cell, delimiter, quoting) for cell in cells)
        data = record.encode(encoding, "replace")
        if odd == 3:
            data += draw(st.sampled_from([b"\xff\xfe", b"\x81", b'"', b'"x', b"\r", b"\0"]))
        elif odd == 4:
            data = draw(st.sampled_from([b"", b" ", b'""', b'"a\nb"', b","]))
        out.append(data + draw(st.sampled_from([end, end, end, "\n", "\r\n", "\n\n"])).encode())
    content = b"".join(out)
    # A file may end anywhere, but not in its header.
    first = len(b"".join(out[: 1 + (out[:1] == [reference.BOM])])) if kind.header else 0
    return kind, content[: draw(st.integers(first, len(content)))] if draw(st.booleans()) else content


def _quoted(cell: str, delimiter: str, how: str) -> str:
    special = any(char in cell for char in (delimiter, '"', "\n", "\r"))
    if how == "wrong" or (how == "needed" and not special):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def of_fast_reader(kind: Kind, data: bytes, chunk_bytes: int) -> reference.Read:
    layout = kind.layout
    spec = UploadSpec(
        upload_id="U",
        dataset="trades",
        layout=layout.name,
        layout_json=layout.canonical_json,
        source="fuzz",
        bytes=len(data),
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        symbol=None if kind.header else "S",
    )
    header = read_header(io.BytesIO(data), layout)
    start = header.after if header else CutPosition()
    chunks = list(cut(io.BytesIO(data), start, delimiter=layout.delimiter, chunk_bytes=chunk_bytes))
    assert b"".join(chunk.payload for chunk in chunks) == data[start.byte :]
    for at, chunk in enumerate(chunks):
        again = list(cut(io.BytesIO(data), chunk.start, delimiter=layout.delimiter, chunk_bytes=chunk_bytes))
        assert again == chunks[at:]
    encoder = RecordEncoder(TRADES, 1)
    found = reference.Read()
    for chunk in chunks:
        parsed = parse(
            chunk.payload,
            layout=layout,
            header=header.text if header else None,
            first_byte=chunk.start.byte,
            first_line=chunk.start.line,
            spec=spec,
            instruments=None,
        )
        assert parsed.rows_read == parsed.rows_accepted + parsed.rows_rejected + parsed.rows_filtered
        assert sum(parsed.errors.values()) == parsed.rows_rejected == parsed.rejects.num_rows
        rows = parsed.rows.to_pylist()
        messages = encoder.messages(parsed.rows).to_pylist()
        decoded = [fastavro.schemaless_reader(io.BytesIO(m[FRAMING:]), TRADES, None) for m in messages]
        for row, message in zip(rows, decoded, strict=True):
            known = {**row, "attributes": dict(row["attributes"])}
            assert message == known
            found.accepted.append(known)
        found.rejected += [(row["line"], row["byte_offset"]) for row in parsed.rejects.to_pylist()]
        found.filtered += parsed.rows_filtered
    return found


@given(files(), st.sampled_from([40, 300, 5_000, 512 * 1024]))
def test_a_file_is_read_as_the_reference_reads_it(file: tuple[Kind, bytes], chunk_bytes: int) -> None:
    kind, data = file
    expected = reference.read(
        data,
        names=None if kind.header else kind.layout.columns,
        delimiter=kind.layout.delimiter,
        encoding=kind.layout.encoding,
        row=kind.row,
        wanted=kind.wanted,
    )
    found = of_fast_reader(kind, data, chunk_bytes)
    names = expected.accepted[0].keys() if expected.accepted else ()
    assert [{name: row[name] for name in names} for row in found.accepted] == expected.accepted
    assert found.rejected == expected.rejected
    assert found.filtered == expected.filtered
