"""A layout that is accepted reads any file: rows and rejects come of it, never another exception."""

import io
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from k2common.columnar.encode import RecordEncoder
from k2common.errors import RecordError
from k2common.layouts.checks import GIVEN, LayoutError, symbols_of, target_types
from k2common.layouts.cutter import read_header
from k2common.layouts.model import Layout
from k2common.layouts.upload import UploadSpec
from k2common.layouts.whole_file import parsed_chunks
from k2common.schemas.datasets import MARKET_DATASETS, REJECTS, avro_schema

COLUMNS = ("a", "b", "c", "d", "e")
COLUMN = st.sampled_from(COLUMNS)
NULLS = st.lists(st.sampled_from(["0", "NA", "", "0.0", "-1"]), max_size=2)
CELLS = st.one_of(
    st.sampled_from(
        [
            *("", "0", "1", "-1", "+5", "1.5", "0.000", "1e3", "0x10", "NaN", "9223372036854775807", " 7 "),
            *(
                "1700000000000000000",
                "2024-03-04T10:00:00Z",
                "2024-03-04 10:00:00",
                "2024-03-04",
                "31/04/2024",
            ),
            *(
                "10:00:00",
                "buy",
                "equity",
                "split",
                "-9223372036854775808",
                "1700000000.5",
                "T",
                "\x00trailing",
            ),
        ]
    ),
    st.text(max_size=6),
)


def _rules(dataset: str, target: str) -> dict[str, st.SearchStrategy[dict[str, Any]]]:
    times = target in ("ts_event", "ts_recv")
    symbols = None if times or target not in target_types(dataset) else symbols_of(dataset, target)
    words = st.sampled_from(symbols) if symbols else st.sampled_from(["x", "1"])
    parts: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "text": {"column": COLUMN, "required": st.booleans(), "nulls": NULLS},
        "decimal": {
            "column": COLUMN,
            "required": st.booleans(),
            "zero_is_null": st.booleans(),
            "negative": st.booleans(),
            "scale": st.sampled_from([None, 0, 9, 18]),
            "nulls": NULLS,
        },
        "integer": {"column": COLUMN, "required": st.booleans(), "nulls": NULLS},
        "enum": {"column": COLUMN, "values": st.dictionaries(CELLS, words, max_size=3), "default": words},
        "constant": {"value": words},
        "filename": {"pattern": st.sampled_from(["(?P<value>[a-z]+)", "^(?P<value>[0-9]*)"])},
        "list": {"column": COLUMN, "separator": st.sampled_from([None, "", " ", ";"])},
        "date": {"column": COLUMN, "format": FORMATS, "required": st.booleans(), "nulls": NULLS},
        "time": {"ways": st.lists(_ways(), min_size=1, max_size=3), "nulls": NULLS},
        "instrument": {
            "column": st.one_of(st.none(), COLUMN),
            "unknown": st.sampled_from(["refuse", "keep"]),
        },
    }
    return {kind: st.fixed_dictionaries({"kind": st.just(kind), **own}) for kind, own in parts.items()}


FORMATS = st.sampled_from(["%Y-%m-%d", "%d/%m/%Y", "%Y%m%d", "%e %b %y", "%Q", "%", "%s", "", "%H:%M"])


def _ways() -> st.SearchStrategy[dict[str, Any]]:
    single = st.sampled_from(["epoch_ns", "epoch_us", "epoch_ms", "epoch_s", "iso"])
    return st.one_of(
        st.fixed_dictionaries({"columns": st.tuples(COLUMN), "format": single}),
        st.fixed_dictionaries(
            {
                "columns": st.tuples(COLUMN, COLUMN),
                "format": st.just("date_time"),
                "date_format": FORMATS,
            }
        ),
    )


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Layouts that the schema allows and that are accepted; most rules fit their column of the dataset."""
    dataset = draw(st.sampled_from(sorted(MARKET_DATASETS)))
    header = draw(st.booleans())
    targets = draw(st.sets(st.sampled_from(sorted({*target_types(dataset), *GIVEN}))))
    fields = {target: _fitting(draw, dataset, target) for target in sorted(targets | _needed(dataset))}
    document = {
        "name": "any",
        "description": "Any layout.",
        "dataset": dataset,
        "header": header,
        "columns": [] if header else list(COLUMNS),
        "delimiter": draw(st.sampled_from([",", ";", "\t", "|", " "])),
        "encoding": draw(st.sampled_from(["utf-8", "cp1252", "koi8-r"])),
        "timezone": draw(
            st.sampled_from(["UTC", "Australia/Sydney", "Factory", "America/New_York", "EST5EDT"])
        ),
        "ambiguous_times": draw(st.sampled_from(["refuse", "earlier", "later"])),
        "venue": draw(st.sampled_from([None, "X"])),
        "asset_class": draw(st.sampled_from([None, "fx"])),
        "fields": fields,
        "where": draw(st.dictionaries(COLUMN, st.lists(CELLS, max_size=2), max_size=1)),
        "attributes": draw(st.lists(COLUMN, max_size=3)),
        "unknown_columns": draw(st.sampled_from(["attributes", "ignore", "refuse"])),
        "off_market": {
            "conditions": draw(st.lists(CELLS, max_size=2)),
            "columns": draw(st.dictionaries(COLUMN, st.lists(CELLS, max_size=2), max_size=1)),
        },
        "ignore_lines": draw(st.lists(st.sampled_from(["", "--- NO RECORDS ---"]), max_size=1)),
        "plausible_from": draw(st.sampled_from(["1980-01-01", "0001-01-01", "1600-01-01"])),
        "plausible_to": draw(st.sampled_from(["2100-01-01", "9999-12-31", "2262-04-12"])),
    }
    try:
        return Layout.parse(json.dumps(document))
    except LayoutError:
        assume(False)
        raise


def _needed(dataset: str) -> set[str]:
    return {
        "trades": {"ts_event", "price", "size"},
        "quotes": {"ts_event", "bid_price"},
        "bars": {"ts_event", "open", "high", "low", "close", "volume", "timeframe"},
        "instruments": {"instrument_id", "valid_from"},
        "corporate_actions": {"kind", "ex_date"},
    }[dataset]


def _fitting(draw: st.DrawFn, dataset: str, target: str) -> dict[str, Any]:
    """A rule that can fill the target; nearly all others would be refused."""
    kinds = {
        "decimal": ("decimal",),
        "int64": ("integer",),
        "date32": ("date",),
        "list": ("list",),
        "string": ("text", "enum", "constant", "filename"),
    }
    kind = str(target_types(dataset).get(target, "string"))
    fitting = next((kinds[name] for name in kinds if kind.startswith(name)), kinds["string"])
    if target in ("ts_event", "ts_recv"):
        fitting = ("time",)
    if target == "symbol" and dataset != "instruments":
        fitting = (*fitting, "instrument")
    return draw(_rules(dataset, target)[draw(st.sampled_from(fitting))])


@st.composite
def files(draw: st.DrawFn, layout: Layout) -> bytes:
    names = list(layout.columns) or draw(st.lists(COLUMN, min_size=1, unique=True))
    lines = [names] if layout.header else []
    lines += draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=5))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = "".join(
        layout.delimiter.join(_quoted(cell, draw(st.booleans())) for cell in line) + end for line in lines
    )
    return text.encode(layout.encoding, "replace") + draw(
        st.sampled_from([b"", b'"', b"\xff", b"\r\r\n", b"\n"])
    )


def _quoted(cell: str, quotes: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if quotes else cell


def _parsed(layout: Layout, data: bytes) -> None:
    spec = UploadSpec(
        upload_id="U",
        dataset=layout.dataset,
        layout=layout.name,
        layout_json=layout.canonical_json,
        source="fuzz",
        bytes=len(data),
        sha256="",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        symbol="S",
    )
    try:
        header = read_header(io.BytesIO(data), layout)
    except RecordError:
        return
    for parsed in parsed_chunks(io.BytesIO(data), header, layout=layout, spec=spec, instruments=None):
        assert parsed.rows_read == parsed.rows_accepted + parsed.rows_rejected + parsed.rows_filtered
        for dataset, rows in ((MARKET_DATASETS[layout.dataset], parsed.rows), (REJECTS, parsed.rejects)):
            if rows.num_rows:
                encoded = RecordEncoder(avro_schema(dataset.topic.schema), 1).messages(rows)
                assert len(encoded) == rows.num_rows


@given(st.data())
def test_an_accepted_layout_never_fails(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    _parsed(layout, data.draw(files(layout)))
