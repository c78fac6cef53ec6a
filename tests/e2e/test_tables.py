"""Tags and maintenance through HTTP on a running fleet: answers stay what they were."""

from typing import Any
from uuid import uuid4

import httpx
from k2local.testing import Fleet

from tests.e2e.test_changes import file_of, prices, unique_symbol

WORK = ("compact", "expire", "collect", "purge")


def sink(fleet: Fleet, method: str, path: str, **parameters: Any) -> httpx.Response:
    return httpx.request(method, f"{fleet.url('iceberg-sink')}{path}", params=parameters, timeout=120)


def test_a_tag_reads_what_it_names_whatever_comes_later_and_is_compacted(fleet: Fleet) -> None:
    symbol, name = unique_symbol(), f"tag-{uuid4().hex[:8]}"
    for price in "123":
        fleet.upload(file_of(symbol, [price]), dataset="trades")
    made = sink(fleet, "POST", "/v1/tags", name=name)
    assert made.status_code == httpx.codes.CREATED
    for price in "456789":
        fleet.upload(file_of(symbol, [price]), dataset="trades")
    assert sorted(prices(fleet, symbol, as_of=name)) == list("123")
    answer = sink(fleet, "POST", "/v1/maintenance/compact", table="market.trades")
    assert answer.status_code == httpx.codes.OK, answer.text
    assert sorted(prices(fleet, symbol, as_of=name)) == list("123")
    assert sorted(prices(fleet, symbol)) == list("123456789")
    answered = fleet.get("query-service", "/v1/trades", symbols=symbol, as_of=name).json()["meta"]
    assert answered["version"] in made.json()["data"]["token"].split(",")

    assert sink(fleet, "DELETE", f"/v1/tags/{name}").status_code == httpx.codes.OK
    gone = fleet.get("query-service", "/v1/trades", symbols=symbol, as_of=name)
    assert (gone.status_code, gone.json()["code"]) == (404, "VERSION_UNKNOWN")


def test_tables_say_what_they_are_made_of_and_every_command_runs(fleet: Fleet) -> None:
    symbol = unique_symbol()
    fleet.upload(file_of(symbol, ["1"]), dataset="trades")
    for work in WORK:
        answer = sink(fleet, "POST", f"/v1/maintenance/{work}")
        assert answer.status_code == httpx.codes.OK, answer.text
    entries = {entry["table"]: entry for entry in sink(fleet, "GET", "/v1/tables").json()["data"]}
    trades = entries["market.trades"]
    assert trades["rows"] >= 1
    assert trades["version"] >= 1
    assert set(WORK) <= set(trades["maintained"])
    assert prices(fleet, symbol) == ["1"]
