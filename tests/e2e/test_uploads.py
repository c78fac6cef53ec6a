"""What a data engineer relies on: balanced receipts, rejects by line, one upload per content, versions."""

import asyncio
import csv
import hashlib
import json
import time
from typing import Any
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.ipc
from k2common.columnar.canonical import Digest
from k2common.kafka.consumer import MessageReader
from k2common.schemas.datasets import CHUNKS
from k2common.settings.kafka import KafkaSettings
from k2local.testing import Fleet

from tests.e2e.files import HEADER, file_of, found, trades, unique_symbol


def test_every_row_is_committed_or_refused_by_line(fleet: Fleet) -> None:
    symbol = unique_symbol()
    lines = trades(symbol, 30)
    lines[4] = lines[4].replace("XTST,", "XTST,abc")
    lines[9] = "only,three,fields"
    receipt = fleet.upload(file_of(lines), dataset="trades", source="test")
    assert receipt["state"] == "committed"
    counts = receipt["rows"]
    assert (counts["read"], counts["committed"], counts["rejected"]) == (30, 28, 2)
    rejects = fleet.data("ingest-gateway", f"/v1/uploads/{receipt['upload_id']}/rejects")
    assert [(row["line"], row["code"], row["raw"]) for row in rejects] == [
        (6, "NUMBER_INVALID", lines[4]),
        (11, "COLUMN_COUNT", lines[9]),
    ]
    assert [row["byte_offset"] for row in rejects] == [
        file_of(lines).index(lines[n].encode()) for n in (4, 9)
    ]
    committed = {row["line"] for row in found(fleet, symbols=symbol)}
    assert committed == set(range(2, 32)) - {6, 11}


def test_rejects_come_in_pages(fleet: Fleet) -> None:
    receipt = fleet.upload(file_of([f"bad {n}" for n in range(25)]), dataset="trades")
    path = f"/v1/uploads/{receipt['upload_id']}/rejects"
    lines: list[int] = []
    token = None
    while True:
        page = {} if token is None else {"page_token": token}
        answer = fleet.get("ingest-gateway", path, limit=10, **page).json()
        lines += [row["line"] for row in answer["data"]]
        token = answer["next_page_token"]
        if token is None:
            break
    assert lines == list(range(2, 27))
    assert receipt["rows"]["committed"] == 0
    assert receipt["state"] == "committed"


def test_an_upload_that_must_not_have_rejects_fails_and_is_never_seen(fleet: Fleet) -> None:
    symbol = unique_symbol()
    content = file_of([*trades(symbol, 10), "bad"])
    receipt = fleet.upload(content, dataset="trades", on_error="abort")
    assert (receipt["state"], receipt["failure"]) == ("failed", "ABORTED_ON_REJECT")
    assert receipt["rows"]["committed"] == 0
    assert found(fleet, symbols=symbol) == []
    mended = fleet.upload(file_of(trades(symbol, 10)), dataset="trades", on_error="abort")
    assert mended["state"] == "committed"
    assert len(found(fleet, symbols=symbol)) == 10
    again = fleet.post(content, dataset="trades", on_error="abort")
    assert again.status_code == 202, "a failed upload gives its content free"


def test_an_idempotency_key_stands_for_one_upload(fleet: Fleet) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    content = file_of(trades(unique_symbol(), 3))
    first = fleet.post(content, headers=key, dataset="trades")
    assert first.status_code == 202
    second = fleet.post(content, headers=key, dataset="trades")
    assert second.status_code == 200
    assert second.json()["data"]["upload_id"] == first.json()["data"]["upload_id"]
    other = fleet.post(file_of(trades(unique_symbol(), 3)), headers=key, dataset="trades")
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_an_empty_file_is_an_upload_without_rows(fleet: Fleet) -> None:
    receipt = fleet.upload(f"{HEADER},x{uuid4().hex}\n".encode(), dataset="trades")
    assert (receipt["state"], receipt["rows"]["read"]) == ("committed", 0)


def test_a_header_that_does_not_fit_is_refused_at_once(fleet: Fleet) -> None:
    answer = fleet.post(b"a,b\n1,2\n", dataset="trades")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "HEADER_MISMATCH"
    assert "'price' is missing" in problem["detail"]


def test_uploads_are_listed_newest_first_and_filtered(fleet: Fleet) -> None:
    batch = uuid4().hex
    ids = [
        fleet.upload(file_of(trades(unique_symbol(), 2)), dataset="trades", batch=batch)["upload_id"]
        for _ in range(3)
    ]
    listed = fleet.data("ingest-gateway", "/v1/uploads", batch=batch)
    assert [entry["upload_id"] for entry in listed] == ids[::-1]
    answer = fleet.get("ingest-gateway", "/v1/uploads", batch=batch, limit=2).json()
    rest = fleet.get(
        "ingest-gateway", "/v1/uploads", batch=batch, limit=2, page_token=answer["next_page_token"]
    ).json()
    assert [entry["upload_id"] for entry in answer["data"] + rest["data"]] == ids[::-1]


def test_a_batch_adds_up_its_uploads(fleet: Fleet) -> None:
    batch = uuid4().hex
    for count in (3, 4):
        lines = [*trades(unique_symbol(), count), "bad"]
        fleet.upload(file_of(lines), dataset="trades", batch=batch)
    found = fleet.data("ingest-gateway", f"/v1/batches/{batch}")
    assert (found["uploads"], found["states"], found["final"]) == (2, {"committed": 2}, True)
    rows = found["rows"]
    assert (rows["read"], rows["committed"], rows["rejected"]) == (9, 7, 2)
    assert found["errors"] == [{"column": None, "code": "COLUMN_COUNT", "count": 2}]
    assert fleet.get("ingest-gateway", "/v1/batches/none").json()["code"] == "BATCH_NOT_FOUND"


def test_rejects_are_given_whole_as_ndjson_and_csv(fleet: Fleet) -> None:
    upload = fleet.upload(file_of(["a", 'b,"x, y"', "c"]), dataset="trades")["upload_id"]
    path = f"/v1/uploads/{upload}/rejects"
    listed = fleet.data("ingest-gateway", path)
    lines = fleet.get("ingest-gateway", path, format="ndjson").text.splitlines()
    assert [json.loads(line) for line in lines] == listed
    table = list(csv.DictReader(fleet.get("ingest-gateway", path, format="csv").text.splitlines()))
    assert [(row["line"], row["raw"]) for row in table] == [(str(row["line"]), row["raw"]) for row in listed]


def test_layouts_are_listed_and_can_be_posted_as_they_are_shown(fleet: Fleet) -> None:
    listed = fleet.data("ingest-gateway", "/v1/layouts")
    assert {"asx-trades", "k2", "binance-quotes"} <= {entry["name"] for entry in listed}
    shown = fleet.data("ingest-gateway", "/v1/layouts/k2", dataset="trades")
    receipt = fleet.upload(file_of(trades(unique_symbol(), 2)), layout=json.dumps(shown))
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", 2)
    for name in ("k2", "nasdaq"):
        assert fleet.get("ingest-gateway", f"/v1/layouts/{name}").json()["code"] == "LAYOUT_NOT_FOUND"


def test_an_older_version_does_not_see_a_later_upload(fleet: Fleet) -> None:
    symbol = unique_symbol()
    first = fleet.upload(file_of(trades(symbol, 20)), dataset="trades")
    second = fleet.upload(file_of(trades(symbol, 5, first=20)), dataset="trades")
    assert len(found(fleet, symbols=symbol, as_of=first["version"])) == 20
    assert len(found(fleet, symbols=symbol, as_of=second["version"])) == 25
    versions = fleet.data("query-service", "/v1/versions", table="market.trades")
    moment = next(v["committed_at"] for v in versions if v["version"] == first["version"])
    assert len(found(fleet, symbols=symbol, as_of=moment)) == 20


def test_pages_and_streams_give_the_same_rows_in_the_same_order(fleet: Fleet) -> None:
    symbol = unique_symbol()
    fleet.upload(file_of(trades(symbol, 57)), dataset="trades")
    stream = found(fleet, symbols=symbol)
    assert [row["line"] for row in stream] == list(range(2, 59))
    pages: list[dict[str, Any]] = []
    token = None
    while True:
        page = {} if token is None else {"page_token": token}
        answer = fleet.get("query-service", "/v1/trades", symbols=symbol, limit=10, **page)
        assert answer.status_code == 200
        pages += answer.json()["data"]
        token = answer.json()["next_page_token"]
        if token is None:
            break
        assert 'rel="next"' in answer.headers["Link"]
    assert pages == stream
    arrow = fleet.get("query-service", "/v1/trades", symbols=symbol, format="arrow")
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert table["line"].to_pylist() == [row["line"] for row in stream]
    assert table.schema.field("price").type == pa.decimal128(28, 12)
    text = fleet.get("query-service", "/v1/trades", symbols=symbol, format="csv").text.splitlines()
    assert len(text) == 58
    assert text[0].split(",")[0] == "venue"


def test_pages_hold_their_version_while_rows_arrive(fleet: Fleet) -> None:
    symbol = unique_symbol()
    fleet.upload(file_of(trades(symbol, 15)), dataset="trades")
    first = fleet.get("query-service", "/v1/trades", symbols=symbol, limit=10).json()
    fleet.upload(file_of(trades(symbol, 15, first=15)), dataset="trades")
    token = first["next_page_token"]
    second = fleet.get("query-service", "/v1/trades", symbols=symbol, limit=10, page_token=token).json()
    assert second["meta"]["version"] == first["meta"]["version"]
    assert len(first["data"] + second["data"]) == 15
    assert second["next_page_token"] is None


def test_symbols_that_are_not_there_are_named(fleet: Fleet) -> None:
    symbol = unique_symbol()
    fleet.upload(file_of(trades(symbol, 1)), dataset="trades")
    answer = fleet.get("query-service", "/v1/trades", symbols=f"{symbol},NOSUCH").json()
    assert answer["meta"]["unresolved"] == ["NOSUCH"]


def test_faults_of_a_request_have_one_shape_everywhere(fleet: Fleet) -> None:
    for service, path, status, code in (
        ("ingest-gateway", "/v1/uploads/unknown", 404, "UPLOAD_NOT_FOUND"),
        ("ingest-gateway", "/v1/uploads?limti=1", 400, "INVALID_PARAMETER"),
        ("query-service", "/v1/trades?limti=1", 400, "INVALID_PARAMETER"),
        ("query-service", "/v1/trades?start=soon", 400, "INVALID_PARAMETER"),
        ("query-service", "/v1/trades?as_of=trades@999999", 404, "VERSION_UNKNOWN"),
        ("query-service", "/v1/nothing", 404, "NOT_FOUND"),
        ("replay-service", "/v1/replays/unknown/stream", 404, "REPLAY_NOT_FOUND"),
        ("csv-loader", "/v1/nothing", 404, "NOT_FOUND"),
        ("iceberg-sink", "/v1/nothing", 404, "NOT_FOUND"),
    ):
        answer = httpx.get(f"{fleet.url(service)}{path}")
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        problem = answer.json()
        assert (problem["code"], problem["status"]) == (code, status)
        assert problem["request_id"] == answer.headers["X-Request-ID"]


def test_every_service_has_probes_and_metrics(fleet: Fleet) -> None:
    for service in ("ingest-gateway", "csv-loader", "iceberg-sink", "query-service", "replay-service"):
        assert fleet.get(service, "/livez").text == "ok\n"
        assert fleet.get(service, "/readyz").json() == {"ready": True, "blocked_by": {}}
        assert "k2_http_requests_answered_total" in fleet.get(service, "/metrics").text
    operations = fleet.get("query-service", "/openapi.json").json()["paths"]
    for path, methods in operations.items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            if parameter["in"] == "query":
                assert parameter["description"], (path, parameter["name"])


def test_a_replay_repeats_itself_and_its_digest_is_that_of_its_rows(fleet: Fleet) -> None:
    symbol = unique_symbol()
    fleet.upload(file_of(trades(symbol, 70_000)), dataset="trades")
    body = {"datasets": ["trades"], "symbols": [symbol]}
    created = httpx.post(f"{fleet.url('replay-service')}/v1/replays", json=body)
    assert created.status_code == 201
    session = created.json()["data"]
    stream = f"/v1/replays/{session['session_id']}/stream"
    first, second = (fleet.get("replay-service", stream).text.splitlines() for _ in range(2))
    assert first == second
    started, *_, completed = (json.loads(line) for line in (first[0], first[-1]))
    assert (started["type"], completed["type"]) == ("replay_started", "replay_completed")
    assert completed["rows"] == 70_000
    rows = [json.loads(line) for line in first if line.startswith('{"type":"trade"')]
    assert [row["line"] for row in rows] == list(range(2, 70_002))
    assert completed["digest"] == digest_of(fleet, symbol, session["version"])
    checkpoints = [json.loads(line) for line in first if line.startswith('{"type":"checkpoint"')]
    assert [checkpoint["rows"] for checkpoint in checkpoints] == [65_536]
    rest = fleet.get("replay-service", stream, cursor=checkpoints[0]["cursor"]).text.splitlines()
    assert json.loads(rest[-1]) == completed
    assert rest[1:-1] == first[-1 - (70_000 - 65_536) : -1]


def digest_of(fleet: Fleet, symbol: str, version: str) -> str:
    """The same digest from another service's rows."""
    answer = fleet.get("query-service", "/v1/trades", symbols=symbol, format="arrow", as_of=version)
    table = pa.ipc.open_stream(answer.content).read_all()
    # The canonical form has the microseconds of the table; `ts_event_ns` is exact.
    at = table.schema.get_field_index("ts_event")
    stored = table["ts_event"].cast(pa.timestamp("us", "UTC"), safe=False)
    table = table.set_column(at, "ts_event", stored)
    names = pa.array(["trades"] * table.num_rows)
    digest = Digest()
    digest.update(table.add_column(0, "dataset", names))
    assert len(digest.finish()) == hashlib.sha256().digest_size
    return digest.finish().hex()


def test_a_replay_on_an_older_version_leaves_out_what_came_later(fleet: Fleet) -> None:
    symbol = unique_symbol()
    first = fleet.upload(file_of(trades(symbol, 10)), dataset="trades")
    fleet.upload(file_of(trades(symbol, 10, first=10)), dataset="trades")
    body = {"datasets": ["trades"], "symbols": [symbol], "as_of": first["version"]}
    session = httpx.post(f"{fleet.url('replay-service')}/v1/replays", json=body).json()["data"]
    lines = fleet.get("replay-service", f"/v1/replays/{session['session_id']}/stream").text.splitlines()
    assert json.loads(lines[-1])["rows"] == 10


async def test_a_clients_trace_goes_on_in_the_chunks(fleet: Fleet) -> None:
    trace = uuid4().hex
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    posted = fleet.post(file_of(trades(unique_symbol(), 3)), headers=headers, dataset="trades")
    upload = posted.json()["data"]["upload_id"].encode()
    fleet.receipt(upload.decode())
    settings = KafkaSettings(bootstrap_servers=fleet.settings.bootstrap_servers)
    places = {(CHUNKS.name, partition): None for partition in range(CHUNKS.partitions)}
    seen: list[str] = []
    async with MessageReader(settings, places) as reader, asyncio.timeout(30):
        while len(seen) < 2:
            for records in (await reader.fetch(limit=500, wait_seconds=0.5)).values():
                for record in records:
                    if record.key == upload:
                        seen += [value.decode() for name, value in record.headers if name == "traceparent"]
    assert {value.split("-")[1] for value in seen} == {trace}


def finished(fleet: Fleet, upload_id: str) -> dict[str, Any]:
    """The final receipt; it is published a moment after the commit."""
    deadline = time.monotonic() + 30
    while not (receipt := fleet.data("ingest-gateway", f"/v1/uploads/{upload_id}"))["finished_at"]:
        assert time.monotonic() < deadline, receipt
        time.sleep(0.05)
    return dict(receipt)


def test_a_receipt_says_when_each_phase_ended_and_is_found_by_time(fleet: Fleet) -> None:
    made = fleet.upload(file_of(trades(unique_symbol(), 3)), dataset="trades", batch=unique_symbol())
    receipt = finished(fleet, made["upload_id"])
    names = ("received_at", "published_at", "parsed_at", "committed_at", "finished_at")
    times = [receipt[name] for name in names]
    assert all(times)
    assert times == sorted(times)
    wanted = {"batch": receipt["batch"]}
    found = fleet.data("ingest-gateway", "/v1/uploads", start=times[0], **wanted)
    assert [entry["upload_id"] for entry in found] == [receipt["upload_id"]]
    assert fleet.data("ingest-gateway", "/v1/uploads", end=times[0], **wanted) == []
    answer = fleet.get("ingest-gateway", "/v1/uploads", start="yesterday")
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "start")
