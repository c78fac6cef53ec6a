"""Files of trades as a test posts them."""

import json
from typing import Any
from uuid import uuid4

from k2local.testing import Fleet

HEADER = "ts_event_ns,symbol,venue,price,size,trade_id"
START = 1_700_000_000_000_000_000


def trades(symbol: str, count: int, *, first: int = 0) -> list[str]:
    return [
        f"{START + n // 3},{symbol},XTST,{100 + n % 7}.{n % 100:02},{1 + n % 5},{n}"
        for n in range(first, first + count)
    ]


def file_of(lines: list[str]) -> bytes:
    return "\n".join([HEADER, *lines, ""]).encode()


def unique_symbol() -> str:
    return f"T{uuid4().hex[:10].upper()}"


def found(fleet: Fleet, **parameters: Any) -> list[dict[str, Any]]:
    answer = fleet.get("query-service", "/v1/trades", format="ndjson", **parameters)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]
