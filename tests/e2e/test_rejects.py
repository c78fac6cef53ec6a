"""A file with a fault of every kind: each is named where it is, the rest is in, and all can be mended."""

import csv
import io
import json
from typing import Any
from uuid import uuid4

from k2local.testing import Fleet

LAYOUT: dict[str, Any] = {
    "name": "every-fault",
    "description": "Sydney time in two columns, symbols by id, a side.",
    "dataset": "trades",
    "header": True,
    "timezone": "Australia/Sydney",
    "fields": {
        "symbol": {"kind": "instrument", "column": "id"},
        "ts_event": {
            "kind": "time",
            "ways": [{"columns": ["day", "time"], "format": "date_time", "date_format": "%m/%d/%Y"}],
        },
        "price": {"kind": "decimal", "column": "price"},
        "size": {"kind": "decimal", "column": "size"},
        "side": {"kind": "enum", "column": "side", "values": {"b": "buy"}, "default": "unknown"},
    },
}
HEADER = "id,day,time,price,size,side"
GOOD = "7,03/10/2014,10:00:00.{n:03},1.5,{n},b"
FAULTS: list[tuple[str, str | None, bytes]] = [
    ("COLUMN_COUNT", None, b"7,03/10/2014,10:00:00,1.5"),
    ("ENCODING_INVALID", None, b"7,03/10/2014,10:00:00,1.5,1,\xff"),
    ("QUOTING_INVALID", None, b'7,03/10/2014,10:00:00,1.5,1,"b"x'),
    ("VALUE_MISSING", "price", b"7,03/10/2014,10:00:00,,1,b"),
    ("VALUE_UNKNOWN", "side", b"7,03/10/2014,10:00:00,1.5,1,both"),
    ("NUMBER_INVALID", "size", b"7,03/10/2014,10:00:00,1.5,many,b"),
    ("NUMBER_OUT_OF_RANGE", "price", b"7,03/10/2014,10:00:00,0.1234567890123,1,b"),
    ("DATE_INVALID", "day", b"7,13/10/2014,10:00:00,1.5,1,b"),
    ("TIMESTAMP_INVALID", "time", b"7,03/10/2014,25:00:00,1.5,1,b"),
    ("TIMESTAMP_AMBIGUOUS", "time", b"7,04/06/2014,02:30:00,1.5,1,b"),
    ("TIMESTAMP_IMPLAUSIBLE", "time", b"7,03/10/1914,10:00:00,1.5,1,b"),
    ("INSTRUMENT_UNKNOWN", "symbol", b"8,03/10/2014,10:00:00,1.5,1,b"),
]


def test_each_fault_is_named_where_it_is_and_mended_until_none_is_outstanding(fleet: Fleet) -> None:
    venue, symbol = f"V{uuid4().hex[:8].upper()}", f"S{uuid4().hex[:8].upper()}"
    known = f"instrument_id,symbol,valid_from\n7,{symbol},2000-01-01\n".encode()
    assert fleet.upload(known, dataset="instruments", venue=venue)["state"] == "committed"
    lines = [HEADER.encode()]
    for n, (_, _, fault) in enumerate(FAULTS):
        lines += [GOOD.format(n=n + 1).encode(), fault]
    content = b"\n".join([*lines, b""])
    receipt = fleet.upload(content, layout=json.dumps(LAYOUT), venue=venue)
    counts = receipt["rows"]
    assert (counts["read"], counts["committed"], counts["rejected"]) == (24, 12, 12)
    assert {(e["column"], e["code"]) for e in receipt["errors"]} == {(c, code) for code, c, _ in FAULTS}

    path = f"/v1/uploads/{receipt['upload_id']}/rejects"
    rejects = fleet.data("ingest-gateway", path)
    assert [(r["code"], r["column"]) for r in rejects] == [(code, column) for code, column, _ in FAULTS]
    assert [r["line"] for r in rejects] == [3 + 2 * n for n in range(len(FAULTS))]
    assert [r["byte_offset"] for r in rejects] == [content.index(fault) for _, _, fault in FAULTS]

    rows = list(csv.DictReader(io.StringIO(fleet.get("ingest-gateway", path, format="csv").text)))
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "raw": GOOD.format(n=100 + n)} for n, row in enumerate(rows))
    repaired = fleet.upload(out.getvalue().encode(), repairs=receipt["upload_id"])
    assert repaired["rows"]["committed"] == len(FAULTS)
    assert fleet.receipt(receipt["upload_id"])["rows"]["outstanding"] == 0
    sizes = {row["size"] for row in fleet.data("query-service", "/v1/trades", symbols=symbol, limit=100)}
    assert sizes == {str(n) for n in (*range(1, 13), *range(100, 112))}
