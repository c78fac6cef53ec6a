"""The client turns pages, streams files, and raises what a service says is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from k2client import Client, K2HttpError

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> Client:
    return Client(transport=httpx.MockTransport(handler))


def test_a_file_is_streamed_under_its_name(tmp_path: Path) -> None:
    file = tmp_path / "7078.csv"
    file.write_bytes(b"x" * 3_000_000)

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Transfer-Encoding"] == "chunked"
        query = dict(request.url.params)
        data = {"bytes": len(request.read()), "key": request.headers["Idempotency-Key"], **query}
        return httpx.Response(202, json={"data": data})

    with client(handler) as k2:
        found = k2.upload(file, layout="asx-trades", idempotency_key="k")
    assert found == {"bytes": 3_000_000, "key": "k", "layout": "asx-trades", "filename": "7078.csv"}


def test_all_pages_are_turned() -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"data": [{"line": 1}, {"line": 2}], "next_page_token": "t"},
        "t": {"data": [{"line": 3}], "next_page_token": None},
    }

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.params["symbols"] == "BHP"
        return httpx.Response(200, json=pages[request.url.params.get("page_token")])

    with client(handler) as k2:
        assert [row["line"] for row in k2.trades(symbols="BHP")] == [1, 2, 3]


def test_a_wait_is_longer_than_the_client_would_wait_by_itself() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.extensions["timeout"]["read"] > 100
        return httpx.Response(200, json={"data": dict(request.url.params)})

    with client(handler) as k2:
        assert k2.receipt("U", wait_seconds=100) == {"wait": "committed", "timeout": "100"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_problem_is_raised_with_its_code(stream: bool) -> None:
    problem = {"code": "VERSION_UNKNOWN", "detail": "there is no version", "errors": [{"parameter": "as_of"}]}

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json=problem)

    with client(handler) as k2, pytest.raises(K2HttpError) as caught:
        list(k2.replay_stream("S") if stream else k2.quotes(as_of="quotes@9"))
    assert (caught.value.status, caught.value.code) == (404, "VERSION_UNKNOWN")
    assert caught.value.errors == [{"parameter": "as_of"}]


def test_an_error_that_is_no_problem_document_keeps_its_text() -> None:
    with (
        client(lambda _: httpx.Response(502, text="bad gateway")) as k2,
        pytest.raises(K2HttpError) as caught,
    ):
        k2.summary("BHP", "2014-03-11")
    assert (caught.value.code, caught.value.detail) == ("UNKNOWN", "bad gateway")


def test_a_replay_is_created_and_read_record_by_record() -> None:
    records = [{"type": "replay_started"}, {"type": "trade"}, {"type": "replay_completed"}]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(201, json={"data": {"session_id": "S", **json.loads(request.content)}})
        assert request.url.params.get("cursor") == "c"
        return httpx.Response(200, text="".join(f"{json.dumps(record)}\n" for record in records))

    with client(handler) as k2:
        session = k2.replay(datasets=["trades"])
        assert session["datasets"] == ["trades"]
        assert list(k2.replay_stream(session["session_id"], cursor="c")) == records


def test_lists_of_the_gateway_and_versions() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"path": request.url.path}], "next_page_token": None})

    with client(handler) as k2:
        paths = [
            entry["path"] for entry in (*k2.uploads(state="failed"), *k2.rejects("U"), *k2.versions("t"))
        ]
    assert paths == ["/v1/uploads", "/v1/uploads/U/rejects", "/v1/versions"]


def test_rows_and_statements_come_as_tables_that_name_their_version() -> None:
    rows = pa.table({"n": [1, 2]})
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema) as writer:
        writer.write_table(rows)

    def handler(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content) if request.content else dict(request.url.params)
        assert asked["format"] == "arrow"
        content = out.getvalue().to_pybytes()
        return httpx.Response(200, content=content, headers={"X-K2-Version": "trades@2"})

    with client(handler) as k2:
        found = [k2.table("bars", timeframe="1Min"), k2.sql("SELECT 1", as_of="trades@2")]
    for table in found:
        assert table["n"].to_pylist() == [1, 2]
        assert table.schema.metadata == {b"k2.version": b"trades@2"}


def test_citations_are_made_and_verified_and_rows_traced() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        return httpx.Response(200, json={"data": {"path": request.url.path, "body": body}})

    with client(handler) as k2:
        made = k2.cite("trades", symbols="BHP")
        assert made["body"] == {"endpoint": "trades", "parameters": {"symbols": "BHP"}}
        assert k2.verify(made) == {"path": "/v1/citations/verify", "body": made}
        assert k2.origin("U", 2)["path"] == "/v1/uploads/U/rows/2"
