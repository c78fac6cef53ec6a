"""One trace from a POST over gateway, loader and sink to the query that first reads the rows."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CLIENT_TRACE, CLIENT_SPAN, AGAIN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "1" * 32
POISON = "P01SON-OF-A-MESSAGE"
CHAIN = [
    ("http request", "k2common.http.app"),
    ("publish upload", "ingest_gateway.claims.publisher"),
    ("parse chunk", "csv_loader.partition"),
    ("settle upload", "iceberg_sink.commits.commit_events"),
    ("first read", "k2common.query.first_reads"),
]
LIMIT_SECONDS = 280


@pytest.fixture(scope="module")
def found(environ: Mapping[str, str]) -> Any:
    """What the program says after a gateway, a loader and a sink have ended in the middle."""
    given = [f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01", f"00-{AGAIN}-{CLIENT_SPAN}-01", POISON]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integration.sink.traced", *given],
        check=False,
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    return {**json.loads(ran.stdout), "lines": ran.stderr.splitlines()}


def chain_to(last: Mapping[str, Any], spans: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The span and its ancestors, the eldest first."""
    by_id = {span["id"]: span for span in spans}
    chain = [last]
    while (parent := chain[0]["parent"]) in by_id:
        chain.insert(0, by_id[parent])
    return chain


def named(spans: Sequence[Mapping[str, Any]], name: str, **attributes: Any) -> list[Mapping[str, Any]]:
    wanted = {f"k2.{key}": value for key, value in attributes.items()}
    return [span for span in spans if span["name"] == name and wanted.items() <= span["attributes"].items()]


@pytest.mark.timeout(300)
def test_the_chain_of_parents_goes_from_the_client_over_four_services(found: Any) -> None:
    ours = [span for span in found["spans"] if span["trace"] == CLIENT_TRACE]
    (read,) = named(ours, "first read")
    chain = chain_to(read, ours)
    assert [(span["name"], span["scope"]) for span in chain] == CHAIN
    assert chain[0]["parent"] == CLIENT_SPAN
    assert {span["attributes"].get("k2.upload_id") for span in chain[1:4]} == {found["uploads"]["one"]}


def test_a_trace_begins_where_the_client_has_none(found: Any) -> None:
    (settled,) = named(found["spans"], "settle upload", upload_id=found["uploads"]["two"])
    ours = [span for span in found["spans"] if span["trace"] == settled["trace"]]
    (read,) = named(ours, "first read")
    chain = chain_to(read, ours)
    assert [(span["name"], span["scope"]) for span in chain] == CHAIN
    assert chain[0]["parent"] is None


def test_what_is_done_again_has_the_same_parent_and_is_carried_on_once(found: Any) -> None:
    ours = [span for span in found["spans"] if span["trace"] == CLIENT_TRACE]
    tries = named(ours, "parse chunk", upload_id=found["uploads"]["one"], index=0)
    assert found["lost"] == 1
    assert len(tries) == 2
    (publish,) = named(ours, "publish upload")
    assert {span["parent"] for span in tries} == {publish["id"]}
    assert len(named(ours, "settle upload")) == len(named(ours, "finish upload")) == 1


def test_the_same_file_again_does_not_go_on_in_another_trace(found: Any) -> None:
    assert [span["name"] for span in found["spans"] if span["trace"] == AGAIN] == ["http request"]


def test_an_upload_links_to_its_commit_and_the_first_read_to_its_request(found: Any) -> None:
    by_id = {span["id"]: span for span in found["spans"]}
    ours = [span for span in found["spans"] if span["trace"] == CLIENT_TRACE]
    (settled,), (read,) = named(ours, "settle upload"), named(ours, "first read")
    (commit,) = (by_id[link] for link in settled["links"])
    assert (commit["name"], commit["parent"]) == ("commit", None)
    assert commit["attributes"]["k2.table"] == "market.trades"
    (request,) = (by_id[link] for link in read["links"])
    assert (request["name"], request["attributes"]["http.route"]) == ("http request", "/v1/trades")
    assert request["trace"] != CLIENT_TRACE


def test_the_log_quotes_no_message_and_names_the_trace(found: Any) -> None:
    lines = [json.loads(line) for line in found["lines"]]
    assert not any(POISON in line for line in found["lines"])
    ours = [line for line in lines if line.get("trace_id") == CLIENT_TRACE]
    assert {line["event"] for line in ours} == {
        "upload claimed",
        "upload published",
        "upload parsed",
        "upload settled",
        "upload finished",
    }
    assert {line["upload_id"] for line in ours} == {found["uploads"]["one"]}
