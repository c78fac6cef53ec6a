"""What was loaded can be corrected and taken back, in one version, and the old version still shows it."""

import csv
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
from k2common.iceberg.versions.hidden_files import MOST_IN_DOCUMENT
from k2local.testing import Fleet

HEADER = "ts_event,symbol,venue,price,size,trade_id"
START = "2024-03-04T14:30:00"


def file_of(symbol: str, prices: list[str]) -> bytes:
    rows = [f"{START}.{n:03},{symbol},XTST,{price},{n + 1},{n}" for n, price in enumerate(prices)]
    return "\n".join([HEADER, *rows, ""]).encode()


def unique_symbol() -> str:
    return f"C{uuid4().hex[:10].upper()}"


def prices(fleet: Fleet, symbol: str, **parameters: Any) -> list[str]:
    rows = fleet.data("query-service", "/v1/trades", symbols=symbol, limit=10_000, **parameters)
    return [row["price"] for row in rows]


def call(fleet: Fleet, method: str, path: str, **parameters: Any) -> httpx.Response:
    url = f"{fleet.url('ingest-gateway')}{path}"
    return httpx.request(method, url, params=parameters, timeout=60)


def test_a_correction_replaces_in_one_version_and_the_old_one_stays_readable(fleet: Fleet) -> None:
    symbol = unique_symbol()
    old = fleet.upload(file_of(symbol, ["1", "2"]), dataset="trades")
    new = fleet.upload(file_of(symbol, ["1", "2.5", "3"]), dataset="trades", replaces=old["upload_id"])
    assert new["state"] == "committed"
    assert prices(fleet, symbol) == ["1", "2.5", "3"]
    assert prices(fleet, symbol, as_of=old["version"]) == ["1", "2"]
    first, last = (int(text["version"].partition("@")[2]) for text in (old, new))
    seen = [prices(fleet, symbol, as_of=f"trades@{number}") for number in range(first, last + 1)]
    assert all(rows in (["1", "2"], ["1", "2.5", "3"]) for rows in seen)
    assert fleet.receipt(old["upload_id"])["replaced_by"] == new["upload_id"]
    again = call(fleet, "POST", "/v1/uploads", dataset="trades", replaces=old["upload_id"], symbol="other")
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_REPLACED")


def test_a_correction_without_any_good_row_still_replaces(fleet: Fleet) -> None:
    symbol = unique_symbol()
    old = fleet.upload(file_of(symbol, ["1", "2"]), dataset="trades")
    new = fleet.upload(file_of(symbol, ["bad"]), dataset="trades", replaces=old["upload_id"])
    assert (new["state"], new["rows"]["rejected"]) == ("committed", 1)
    assert prices(fleet, symbol) == []


def test_a_correction_that_fails_leaves_what_it_would_replace(fleet: Fleet) -> None:
    symbol = unique_symbol()
    old = fleet.upload(file_of(symbol, ["1", "2"]), dataset="trades")
    new = fleet.upload(
        file_of(symbol, ["1", "bad"]), dataset="trades", on_error="abort", replaces=old["upload_id"]
    )
    assert (new["state"], new["failure"]) == ("failed", "ABORTED_ON_REJECT")
    assert prices(fleet, symbol) == ["1", "2"]


def test_a_retracted_upload_is_gone_from_the_next_version_on_and_may_be_posted_again(fleet: Fleet) -> None:
    symbol = unique_symbol()
    content = file_of(symbol, ["1", "2"])
    receipt = fleet.upload(content, dataset="trades")
    path = f"/v1/uploads/{receipt['upload_id']}/retract"
    answer = call(fleet, "POST", path)
    assert (answer.status_code, answer.json()["data"]["state"]) == (200, "retracted")
    assert call(fleet, "POST", path).status_code == 200
    assert prices(fleet, symbol) == []
    assert prices(fleet, symbol, as_of=receipt["version"]) == ["1", "2"]
    again = fleet.upload(content, dataset="trades")
    assert again["upload_id"] != receipt["upload_id"]
    assert prices(fleet, symbol) == ["1", "2"]


def test_more_retractions_than_a_document_holds_are_seen_by_every_service(fleet: Fleet) -> None:
    symbol, count = unique_symbol(), MOST_IN_DOCUMENT + 10
    with ThreadPoolExecutor(8) as threads:
        contents = [file_of(symbol, [str(n)]) for n in range(1, count + 1)]
        receipts = list(threads.map(lambda content: fleet.upload(content, dataset="trades"), contents))
        whole = max((text["version"] for text in receipts), key=lambda token: int(token.partition("@")[2]))
        assert len(prices(fleet, symbol)) == count
        paths = [f"/v1/uploads/{text['upload_id']}/retract" for text in receipts]
        answers = list(threads.map(lambda path: call(fleet, "POST", path), paths))
    assert {answer.json()["data"]["state"] for answer in answers} == {"retracted"}
    (last,) = fleet.data("query-service", "/v1/versions", table="market.trades", limit=1)
    assert len(last["hidden"]) >= count
    assert prices(fleet, symbol) == []
    assert {fleet.receipt(text["upload_id"])["state"] for text in receipts} == {"retracted"}
    assert len(prices(fleet, symbol, as_of=whole)) == count
    assert fleet.upload(file_of(symbol, ["1"]), dataset="trades")["state"] == "committed"
    assert prices(fleet, symbol) == ["1"]


def test_what_is_not_committed_cannot_be_retracted_and_the_other_way_round(fleet: Fleet) -> None:
    symbol = unique_symbol()
    failed = fleet.upload(file_of(symbol, ["bad"]), dataset="trades", on_error="abort")
    answer = call(fleet, "POST", f"/v1/uploads/{failed['upload_id']}/retract")
    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_COMMITTED")
    done = fleet.upload(file_of(symbol, ["1"]), dataset="trades")
    answer = call(fleet, "DELETE", f"/v1/uploads/{done['upload_id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "ALREADY_COMMITTED")


def test_a_cancelled_upload_is_never_seen(fleet: Fleet) -> None:
    symbol = unique_symbol()
    rows = "".join(f"{START},{symbol},XTST,1,1,{n}\n" for n in range(400_000))
    answer = httpx.post(
        f"{fleet.url('ingest-gateway')}/v1/uploads",
        params={"dataset": "trades"},
        content=f"{HEADER}\n{rows}",
        headers={"Content-Type": "text/csv"},
        timeout=60,
    )
    upload_id = answer.json()["data"]["upload_id"]
    cancelled = call(fleet, "DELETE", f"/v1/uploads/{upload_id}", timeout=60)
    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.json()["data"]["state"] == "cancelled"
    assert prices(fleet, symbol) == []


def test_rejects_are_mended_and_posted_until_none_is_outstanding(fleet: Fleet) -> None:
    symbol = unique_symbol()
    receipt = fleet.upload(file_of(symbol, ["1", "2x", "3"]), dataset="trades")
    assert receipt["rows"]["outstanding"] == 1
    path = f"/v1/uploads/{receipt['upload_id']}/rejects"
    export = fleet.get("ingest-gateway", path, format="csv").text
    rows = list(csv.DictReader(io.StringIO(export)))
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "raw": row["raw"].replace("2x", "2")} for row in rows)
    repaired = fleet.upload(out.getvalue().encode(), repairs=receipt["upload_id"])
    assert (repaired["state"], repaired["rows"]["committed"]) == ("committed", 1)
    closed = fleet.receipt(receipt["upload_id"])
    assert closed["rows"]["outstanding"] == 0
    assert closed["repaired_by"] == [repaired["upload_id"]]
    assert prices(fleet, symbol) == ["1", "2", "3"]


def test_the_posted_bytes_come_back_and_are_loaded_again_in_another_zone(fleet: Fleet) -> None:
    symbol = unique_symbol()
    content = file_of(symbol, ["1", "2"])
    receipt = fleet.upload(content, dataset="trades")
    path = f"/v1/uploads/{receipt['upload_id']}"
    kept = fleet.get("ingest-gateway", f"{path}/content")
    assert kept.content == content
    assert hashlib.sha256(kept.content).hexdigest() == receipt["sha256"]
    answer = call(fleet, "POST", f"{path}/reload", timezone="America/New_York")
    assert answer.status_code == 202, answer.text
    reloaded = fleet.receipt(answer.json()["data"]["upload_id"])
    assert (reloaded["state"], reloaded["replaces"]) == ("committed", receipt["upload_id"])
    rows = fleet.data("query-service", "/v1/trades", symbols=symbol)
    assert [row["ts_event"] for row in rows] == [
        "2024-03-04T19:30:00.000000000Z",
        "2024-03-04T19:30:00.001000000Z",
    ]
    before = fleet.data("query-service", "/v1/trades", symbols=symbol, as_of=receipt["version"])
    assert before[0]["ts_event"] == "2024-03-04T14:30:00.000000000Z"


def test_a_record_that_never_ends_fails_its_upload_alone(fleet: Fleet) -> None:
    symbol = unique_symbol()
    endless = file_of(symbol, ["1"]) + b'"' + b"xxxxxxxxxx\n" * 300_000
    receipt = fleet.upload(endless, dataset="trades")
    assert (receipt["state"], receipt["failure"]) == ("failed", "RECORD_TOO_LONG")
    assert prices(fleet, symbol) == []
    assert fleet.upload(file_of(symbol, ["1"]), dataset="trades")["state"] == "committed"
