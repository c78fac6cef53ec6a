"""A row leads back to its file, its raw line and its place in Kafka."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.versions.hidden import HiddenUpload, Reason
from query_service.provenance.provenance import dialect_of, record_at

from tests.integration.answers.house import House

FILE = b'\xef\xbb\xbfts;price;note\r\n1;2;"a\r\nb"\r\n3;4;caf\xe9\r\n\r\n5;x;\r\n'


def store(house: House, upload: str = "U1", **receipt: Any) -> None:
    """What the gateway and the sink leave of an upload."""
    sha256 = hashlib.sha256(FILE).hexdigest()
    with house.archive.writer(sha256) as writer:
        writer.fill(io.BytesIO(FILE), len(FILE))
        writer.finish()
    text = {
        "dataset": "trades", "filename": "a.csv", "sha256": sha256, "bytes": len(FILE), "layout": "own",
        "source": "test", "version": "trades@1", "delimiter": ";", "encoding": "latin-1", **receipt,
    }  # fmt: skip
    house.add("uploads", [{"receipt": json.dumps(text)}], upload=upload)


@pytest.fixture
async def traced(house: House) -> House:
    house.add("trades", [{"line": 2, "price": "2"}, {"line": 4, "price": "4"}], upload="U1")
    store(house)
    reject = {"line": 6, "code": "NUMBER_INVALID", "column": "price", "message": "no number", "raw": "5;x;"}
    house.add("rejects", [reject], upload="U1")
    return house


async def test_a_row_has_its_line_its_file_and_its_place(traced: House) -> None:
    found = await traced.data("/v1/uploads/U1/rows/4")
    assert found["raw"] == "3;4;café"
    assert (found["row"]["price"], found["row"]["line"]) == ("4", 4)
    assert found["kafka"] == {"topic": "market.trades.v1", "epoch": 0, "partition": 0, "offset": 1}
    assert found["file"]["filename"] == "a.csv"
    assert found["file"]["sha256"] == hashlib.sha256(FILE).hexdigest()
    assert (found["visible_since"], found["reject"]) == ("trades@1", None)
    assert (await traced.data("/v1/uploads/U1/rows/2"))["raw"] == '1;2;"a\r\nb"'


async def test_a_refused_line_has_its_reason(traced: House) -> None:
    found = await traced.data("/v1/uploads/U1/rows/6")
    assert (found["row"], found["kafka"], found["raw"]) == (None, None, "5;x;")
    assert found["reject"]["code"] == "NUMBER_INVALID"


async def test_lines_without_a_row_and_uploads_that_are_none_are_not_found(traced: House) -> None:
    for path, code in (("U1/rows/1", "ROW_NOT_FOUND"), ("U9/rows/2", "UPLOAD_NOT_FOUND")):
        answer = await traced.get(f"/v1/uploads/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert (await traced.get("/v1/uploads/U1/rows/0")).status_code == 400


async def test_a_retracted_row_is_found_in_the_versions_that_show_it(traced: House) -> None:
    traced.add("trades", [], hidden={"U1": HiddenUpload(reason=Reason.RETRACTED)})
    gone = await traced.get("/v1/uploads/U1/rows/4")
    assert gone.status_code == 404
    assert "retracted" in gone.json()["detail"]
    assert (await traced.data("/v1/uploads/U1/rows/4", as_of="trades@1"))["raw"] == "3;4;café"


async def test_a_file_that_is_no_longer_kept_has_no_raw_line(traced: House) -> None:
    traced.archive.remove(hashlib.sha256(FILE).hexdigest())
    found = await traced.data("/v1/uploads/U1/rows/4")
    assert (found["raw"], found["row"]["price"]) == (None, "4")


async def test_nothing_is_found_before_the_first_receipt(house: House) -> None:
    assert (await house.get("/v1/uploads/U1/rows/2")).json()["code"] == "UPLOAD_NOT_FOUND"


def test_an_older_receipt_has_the_dialect_of_its_layout() -> None:
    assert dialect_of({"layout": "k2", "dataset": "trades"}) == (",", "utf-8")
    assert dialect_of({"layout": "own", "dataset": "trades"}) == (",", "utf-8")


def pieces_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@given(st.lists(st.sampled_from(["a", "", 'x,"1\n2"', "b,c"]), max_size=8), st.integers(1, 9), st.booleans())
def test_a_record_is_found_whatever_the_pieces(records: list[str], size: int, ended: bool) -> None:
    text = "\n".join(records) + ("\n" if ended and records else "")
    line = 1
    for place, record in enumerate(records):
        found = record_at(pieces_of(text.encode(), size), line, delimiter=",")
        last = place == len(records) - 1
        assert found == (None if last and not record and not ended else record.encode())
        line += record.count("\n") + 1
    assert record_at(pieces_of(text.encode(), size), line + 1, delimiter=",") is None
