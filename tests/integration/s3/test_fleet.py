"""The five services on a REST catalogue and an object store: the same promises, through HTTP alone."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from k2local.store import SECRET
from k2local.testing import Fleet, running_fleet

from tests.e2e.logs import lines, texts

ROOT = Path(__file__).parents[3]
ROWS = 20_000
START = 1_700_000_000_000_000_000
PAGE_KEY = "S1GNS-PAGES-AND-MORE"
KILLS_AT_MOST = 10
DEAD_PROXY = "http://127.0.0.1:9"


def file_of(symbol: str) -> bytes:
    rows = (f"{START + n},{symbol},XTST,{n % 7}.25,{1 + n % 5}\n" for n in range(ROWS))
    return ("ts_event_ns,symbol,venue,price,size\n" + "".join(rows)).encode()


def lines_of(fleet: Fleet, symbol: str, as_of: str) -> list[int]:
    answer = fleet.get("query-service", "/v1/trades", symbols=symbol, as_of=as_of, format="ndjson")
    assert answer.status_code == httpx.codes.OK, answer.text
    return sorted(json.loads(line)["line"] for line in answer.text.splitlines())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    # Nothing on this machine is asked through a proxy, by any process of the fleet and by this one.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"), DEAD_PROXY)
    environ = {
        "K2_GATEWAY__PAGE_KEY": PAGE_KEY,
        "K2_QUERY__CITATION_KEY": PAGE_KEY,
        **proxies,
        "no_proxy": "",
        "NO_PROXY": "",
    }
    with running_fleet(tmp_path_factory.mktemp("s3-fleet"), cache, on_s3=True, environ=environ) as running:
        yield running


def test_an_upload_is_committed_answered_replayed_and_given_back(fleet: Fleet) -> None:
    content = file_of("ONE")
    receipt = fleet.upload(content, dataset="trades")
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", ROWS)
    assert lines_of(fleet, "ONE", receipt["version"]) == list(range(2, ROWS + 2))
    path = f"/v1/uploads/{receipt['upload_id']}/content"
    assert fleet.get("ingest-gateway", path).content == content
    body = {"datasets": ["trades"], "symbols": ["ONE"], "as_of": receipt["version"]}
    session = fleet.call("POST", "replay-service", "/v1/replays", json=body).json()["data"]
    stream = fleet.get("replay-service", f"/v1/replays/{session['session_id']}/stream").text.splitlines()
    last = json.loads(stream[-1])
    assert (last["type"], last["rows"]) == ("replay_completed", ROWS)


def test_kills_of_sink_and_store_lose_and_double_nothing(fleet: Fleet) -> None:
    posted = {symbol: fleet.post(file_of(symbol), dataset="trades") for symbol in ("TWO", "THREE")}
    fleet.kill("iceberg-sink")
    fleet.kill("store")
    fleet.wait_ready("store")
    for symbol, answer in posted.items():
        receipt = fleet.receipt(answer.json()["data"]["upload_id"])
        assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", ROWS)
        assert lines_of(fleet, symbol, receipt["version"]) == list(range(2, ROWS + 2))


def told(fleet: Fleet) -> set[str]:
    return {line["event"] for line in lines(fleet.settings)}


def test_the_logs_of_it_all_are_json_and_hold_no_key(fleet: Fleet) -> None:
    retried = "work failed and is tried again"
    # What failed is told, with the store's own words. One kill may fall between two accesses.
    for n in range(KILLS_AT_MOST):
        if retried in told(fleet):
            break
        fleet.kill("store")
        fleet.post(file_of(f"FOUR-{n}"), dataset="trades")
        fleet.wait_ready("store")
    assert {"settings", "upload settled", retried} <= told(fleet)
    secrets = (SECRET, PAGE_KEY)
    found = [
        (name, secret) for name, text in texts(fleet.settings).items() for secret in secrets if secret in text
    ]
    assert found == []
