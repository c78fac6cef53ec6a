"""A house with a few rows of every table."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from k2common.versions.hidden import HiddenUpload, Reason

from tests.integration.answers.house import EVENT_NS, House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture
async def market(house: House) -> House:
    """Trades of three uploads, the second of which is hidden and shares a file's range with nothing."""
    trades = [{"price": f"{10 + n}.5", "size": str(n + 1), "sequence": n} for n in range(6)]
    house.add("trades", [*trades, {"symbol": "XYZ", "price": "0.000000000123", "size": "3"}], upload="U1")
    house.add("trades", [{"symbol": "SECRET", "price": "666"}] * 3, upload="U2")
    house.add("trades", [{"symbol": "ABC", "ts_event_ns": EVENT_NS + 10**9}], upload="U3")
    house.add("trades", [], hidden={"U2": HiddenUpload(reason=Reason.RETRACTED)})
    quotes = [{"bid_price": str(10 + n), "ask_price": str(11 + n)} for n in range(4)]
    house.add("quotes", quotes, upload="U4")
    house.add("instruments", [{"symbol": "ABC", "name": "A"}], upload="U5")
    house.add("corporate_actions", [{"symbol": "ABC"}], upload="U6")
    house.add("bars", [{"symbol": "ABC"}], upload="U7")
    return house
