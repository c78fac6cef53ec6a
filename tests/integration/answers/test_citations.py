"""A citation holds as long as its rows can be read, whatever becomes of files and snapshots."""

from __future__ import annotations

from typing import Any

import pytest
from k2common.iceberg.commits.expiry import Retention
from k2common.versions.hidden import HiddenUpload, Reason

from tests.integration.answers.house import House

SQL = "SELECT symbol, sum(price * size) AS notional FROM trades GROUP BY symbol"


async def cite(house: House, endpoint: str, **parameters: Any) -> dict[str, Any]:
    answer = await house.http.post("/v1/citations", json={"endpoint": endpoint, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()["data"]
    return document


async def verified(house: House, document: dict[str, Any]) -> dict[str, Any]:
    answer = await house.http.post("/v1/citations/verify", json=document)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_a_citation_names_version_rows_and_digest(market: House) -> None:
    document = await cite(market, "trades", symbols="ABC", as_of="trades@1")
    assert (document["version"], document["rows"]) == ("trades@1", 6)
    assert document["parameters"] == {"symbols": "ABC"}
    again = await cite(market, "trades", symbols="ABC", as_of="trades@1")
    assert again["sha256"] == document["sha256"]
    assert (await cite(market, "trades", symbols="XYZ"))["sha256"] != document["sha256"]
    assert (await verified(market, document))["holds"]


@pytest.mark.parametrize(
    ("endpoint", "parameters"), [("quotes", {}), ("bars", {"timeframe": "1Min"}), ("sql", {"sql": SQL})]
)
async def test_it_holds_after_later_commits_and_expiry(
    market: House, endpoint: str, parameters: dict[str, Any]
) -> None:
    document = await cite(market, endpoint, **parameters)
    assert document["rows"] > 0
    for n in range(3):
        keep = Retention(live=2, recorded=lambda _: True)
        market.add("trades", [{"price": str(n)}], upload=f"L{n}", retention=keep)
    market.add("trades", [], hidden={"U1": HiddenUpload(reason=Reason.RETRACTED)})
    found = await verified(market, document)
    assert (found["holds"], found["rows"]) == (True, document["rows"])


async def test_what_was_changed_is_not_genuine(market: House) -> None:
    document = await cite(market, "trades")
    for change in ({"rows": 9}, {"version": "trades@1"}, {"signature": "0"}, {"parameters": {"limit": 1}}):
        answer = await market.http.post("/v1/citations/verify", json={**document, **change})
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_CITATION")


async def test_the_problem_of_the_answer_is_that_of_the_citation(market: House) -> None:
    for endpoint, parameters, status, code in (
        ("trades", {"as_of": "trades@99"}, 404, "VERSION_UNKNOWN"),
        ("trades", {"simbols": "A"}, 400, "INVALID_PARAMETER"),
        ("trades", {"format": "csv"}, 422, "NOT_CITABLE"),
        ("sql", {"sql": "SELECT * FROM read_text('x')"}, 422, "SQL_NOT_ALLOWED"),
        ("sql", {"sql": "SELECT INTERVAL 1 DAY AS i"}, 422, "NOT_CITABLE"),
        ("orders", {}, 400, "INVALID_PARAMETER"),
    ):
        body = {"endpoint": endpoint, "parameters": parameters}
        answer = await market.http.post("/v1/citations", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
