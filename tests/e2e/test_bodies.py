"""However a file comes, it is the same upload; beyond a limit it is refused before anything is kept."""

import base64
import gzip
import hashlib
import io
import zipfile

import httpx
import pytest
import zstandard
from k2local.testing import Fleet

from tests.e2e.files import file_of, found, trades, unique_symbol


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_packed_file_is_the_same_upload_as_the_plain_one(fleet: Fleet, encoding: str) -> None:
    content = file_of(trades(unique_symbol(), 5))
    packed = gzip.compress(content) if encoding == "gzip" else zstandard.compress(content)
    digest = base64.b64encode(hashlib.sha256(packed).digest()).decode()
    headers = {"Content-Encoding": encoding, "Content-Digest": f"sha-256=:{digest}:"}
    first = fleet.post(packed, headers=headers, dataset="trades")
    assert first.status_code == 202
    receipt = fleet.receipt(first.json()["data"]["upload_id"])
    assert (receipt["bytes"], receipt["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    again = fleet.post(content, dataset="trades")
    assert (again.status_code, again.json()["data"]["upload_id"]) == (200, receipt["upload_id"])
    wrong = fleet.post(packed[:-1] + b"x", headers=headers, dataset="trades")
    assert wrong.status_code == 400


def test_a_form_and_a_zip_are_the_upload_that_the_plain_file_is(fleet: Fleet) -> None:
    symbol = unique_symbol()
    content = file_of(trades(symbol, 5))
    receipt = fleet.upload(content, dataset="trades", filename="a.csv")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.csv", content)
    url = f"{fleet.url('ingest-gateway')}/v1/uploads"
    answers = [
        httpx.post(url, files={"file": ("a.csv", content, "text/csv")}, data={"dataset": "trades"}),
        httpx.post(
            url, files={"file": ("a.zip", packed.getvalue(), "application/zip")}, data={"dataset": "trades"}
        ),
        httpx.post(
            url,
            content=packed.getvalue(),
            headers={"Content-Type": "application/zip"},
            params={"dataset": "trades"},
        ),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.json()["data"]["upload_id"] for answer in answers} == {receipt["upload_id"]}


def test_lines_and_members_of_forms_have_the_limits_of_bodies(fleet: Fleet) -> None:
    url = f"{fleet.url('ingest-gateway')}/v1/uploads"
    long = b"ts_event_ns,symbol,venue,price,size\n" + b"x" * (1024**2 + 10) + b"\n"
    answer = httpx.post(url, files={"file": ("a.csv", long, "text/csv")}, data={"dataset": "trades"})
    assert (answer.status_code, answer.json()["code"]) == (422, "LINE_TOO_LONG")


def test_a_dry_run_says_what_would_become_of_the_rows_and_keeps_nothing(fleet: Fleet) -> None:
    symbol = unique_symbol()
    content = file_of([*trades(symbol, 5), "bad"])
    answer = fleet.post(content, dataset="trades", dry_run="true")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert data["rows"] == {"read": 6, "accepted": 5, "rejected": 1, "filtered": 0}
    assert data["rejects"][0]["line"] == 7
    assert found(fleet, symbols=symbol) == []
    assert fleet.upload(content, dataset="trades")["rows"]["committed"] == 5


def test_a_line_or_a_header_beyond_the_limits_is_refused(fleet: Fleet) -> None:
    long = file_of(trades(unique_symbol(), 1)) + b"x" * (1024 * 1024 + 1) + b"\n"
    wide = ",".join(["ts_event", "price", "size", *(f"c{n}" for n in range(1000))]).encode() + b"\n"
    for content, code in ((long, "LINE_TOO_LONG"), (wide, "TOO_MANY_COLUMNS")):
        answer = fleet.post(content, dataset="trades", symbol="A", venue="X")
        assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_layout_is_found_by_a_sample(fleet: Fleet) -> None:
    url = f"{fleet.url('ingest-gateway')}/v1/layouts/detect"
    answer = httpx.post(url, content=file_of(trades("A", 3)))
    assert answer.json()["data"][0]["name"] == "k2"
