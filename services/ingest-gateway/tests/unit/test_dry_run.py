"""A layout that cannot read a file is known before the file is accepted; so is which layout can read it."""

import io
import json
from datetime import UTC, datetime

import pytest
from ingest_gateway.uploads.dry_run import FIRST_BLOCK_BYTES, check_first_block, detected
from k2common.errors import RecordError
from k2common.layouts.catalogue import builtin_layouts, layout_named
from k2common.layouts.cutter import read_header
from k2common.layouts.model import Layout
from k2common.layouts.parser import UnparseableError
from k2common.layouts.upload import UploadSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "ts_event_ns,symbol,venue,price,size,conditions\n"
ROW = "1700000000000000000,A,X,1,1,x\n"


def spec(layout: Layout) -> UploadSpec:
    return UploadSpec(
        upload_id="",
        dataset=layout.dataset,
        layout=layout.name,
        layout_json=layout.canonical_json,
        source="test",
        bytes=0,
        sha256="",
        received_at=NOW,
    )


def checked(layout: Layout, text: str) -> io.BytesIO:
    file = io.BytesIO(text.encode())
    check_first_block(file, spec(layout), read_header(file, layout))
    return file


def test_a_layout_that_ends_the_parser_is_found_by_the_first_block() -> None:
    document = json.loads(layout_named("k2", dataset="trades").canonical_json)
    document["fields"]["conditions"]["separator"] = ""
    layout = Layout.accepted(json.dumps(document))
    with pytest.raises(UnparseableError, match="empty separator"):
        checked(layout, HEADER + ROW)


def test_no_more_than_the_first_block_is_read_of_a_large_file() -> None:
    layout = layout_named("k2", dataset="trades")
    file = checked(layout, HEADER + 100_000 * ROW)
    assert file.tell() == len(HEADER) + FIRST_BLOCK_BYTES


def test_rows_at_fault_are_no_reason_to_refuse_a_file() -> None:
    checked(layout_named("k2", dataset="trades"), HEADER + "bad\n")


def test_a_file_of_trades_is_not_offered_as_quotes() -> None:
    found = detected((HEADER + ROW).encode(), builtin_layouts(), filename=None, now=NOW)
    assert found[0]["dataset"] == "trades"
    assert "quotes" not in {entry["dataset"] for entry in found}


def test_a_file_of_trades_is_refused_as_quotes() -> None:
    with pytest.raises(RecordError, match="a bid or an ask is missing: 'bid_price' or 'ask_price'"):
        read_header(io.BytesIO(HEADER.encode()), layout_named("k2", dataset="quotes"))
