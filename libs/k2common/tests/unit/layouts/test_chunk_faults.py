"""What a layout can do that once ended the parser: it works, refuses rows, or is the chunk's own fault."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from k2common.errors import RecordError
from k2common.layouts.cutter import header_names
from k2common.layouts.instruments import InstrumentIndex
from k2common.layouts.model import Layout
from k2common.layouts.parser import ParsedChunk, UnparseableError, parse
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


def test_one_column_may_be_an_id_and_a_number() -> None:
    layout = with_fields(
        trade_id={"kind": "text", "column": "id"}, sequence={"kind": "integer", "column": "id"}
    )
    (row,) = rows(read(layout, f"at,sym,px,qty,id\n{NS},A,1,2,007\n"))
    assert (row["trade_id"], row["sequence"]) == ("007", 7)


def test_a_word_that_the_dataset_does_not_have_is_refused() -> None:
    layout = with_fields(side={"kind": "text", "column": "s"})
    text = "at,sym,px,qty,s\n" + "".join(f"{NS},A,1,2,{side}\n" for side in ("buy", "", "bid"))
    parsed = read(layout, text)
    assert [row["side"] for row in rows(parsed)] == ["buy", "unknown"]
    assert codes(parsed) == [("side", "VALUE_UNKNOWN")]


def test_an_instruments_column_that_the_file_lacks_refuses_each_row() -> None:
    layout = {
        **with_fields(symbol={"kind": "instrument", "column": "number"}),
        "venue": "XASX",
    }
    parsed = read(layout, f"at,px,qty\n{NS},1,2\n", instruments=INSTRUMENTS)
    assert codes(parsed) == [("symbol", "INSTRUMENT_UNKNOWN")]


def test_what_a_library_raises_is_a_fault_of_the_chunk() -> None:
    document = with_fields(conditions={"kind": "list", "column": "c", "separator": ""})
    layout = Layout.accepted(json.dumps(document))
    with pytest.raises(UnparseableError, match="ValueError: empty separator"):
        read(layout, f"at,sym,px,qty,c\n{NS},A,1,2,x\n")


@pytest.mark.parametrize("header", ["a\rb", "a" * 200_000 + ",b"])
def test_a_header_that_is_no_csv_is_refused(header: str) -> None:
    with pytest.raises(RecordError):
        header_names(header, Layout.parse(json.dumps(trades_layout())))
