"""Lines that are cut out of a file are found as gaps, and heal when they come after all."""

import time
from typing import Any

from k2local.testing import Fleet

from tests.e2e.files import START, unique_symbol

HEADER = "ts_event_ns,symbol,venue,price,size,sequence"
SECONDS = 90


def file_of(symbol: str, numbers: list[int]) -> bytes:
    lines = [f"{START + n},{symbol},XTST,100.5,1,{n}" for n in numbers]
    return "\n".join([HEADER, *lines, ""]).encode()


def told(fleet: Fleet, symbol: str, **parameters: Any) -> list[dict[str, Any]]:
    """The answer once the numbers of the newest version have been followed."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = fleet.get(
            "query-service",
            "/v1/gaps",
            symbols=symbol,
            start=str(START - 1),
            end=str(START + 10_000),
            causes="sequence_break",
            **parameters,
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        if not any(warning.startswith("GAPS_BEHIND") for warning in body["meta"]["warnings"]):
            found: list[dict[str, Any]] = body["data"]
            return found
        assert time.monotonic() < deadline, body["meta"]
        time.sleep(0.5)


def test_cut_lines_are_gaps_until_they_come(fleet: Fleet) -> None:
    symbol = unique_symbol()
    cut = [*range(100, 103), 250, *range(700, 1_000)]
    numbers = [n for n in range(1, 5_001) if n not in set(cut)]
    receipt = fleet.upload(file_of(symbol, numbers), dataset="trades")

    found = told(fleet, symbol)

    assert [(gap["first_sequence"], gap["count"]) for gap in found] == [
        ("100", "3"),
        ("250", "1"),
        ("700", "300"),
    ]
    assert {gap["evidence"]["upload_id"] for gap in found} == {receipt["upload_id"]}
    first = found[0]["evidence"]
    assert (first["previous_sequence"], first["line"]) == ("99", 101)

    before = receipt["version"]
    fleet.upload(file_of(symbol, cut[:-1]), dataset="trades")
    (left,) = told(fleet, symbol)
    assert (left["first_sequence"], left["count"], left["evidence"]["healed"]) == ("700", "300", "299")

    (added,) = fleet.get("query-service", "/v1/diff", symbols=symbol, **{"from": before}).json()["data"]
    assert (added["change"], added["symbol"], added["rows"]) == ("added", symbol, len(cut) - 1)
    (day,) = fleet.get("query-service", "/v1/datasets/trades/condition", symbols=symbol).json()["data"]
    assert (day["condition"], day["rows"], day["missing_sequences"]) == ("degraded", 4_999, "1")
