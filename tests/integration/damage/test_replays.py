"""A replay over a lost file is refused or cut off: what is streamed is right, and it is never completed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from k2common.schemas.datasets import TRADES
from k2common.testing.generator import trades_csv
from k2common.testing.ticks import append, rows_of

from tests.integration.answers.house import House, open_house
from tests.integration.damage.flips import data_files, flipped, missing
from tests.integration.replay.test_limits import Replays, engine, replays

FLIPS = 6


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        for number in range(2):
            text = trades_csv(3_000, seed=number, symbols=3, days=3)
            append(opened.catalog, TRADES, rows_of(text, upload=f"U{number}", offset=3_000 * number))
            opened.reader.refresh(TRADES.table)
        yield opened


async def streamed(service: Replays) -> tuple[int, list[Any]]:
    """The status and the whole lines of a new replay, whether it was cut off or not."""
    session = (await service.create()).json()["data"]["session_id"]
    text = ""
    async with service.http.stream("GET", f"/v1/replays/{session}/stream") as answer:
        try:
            async for piece in answer.aiter_text():
                text += piece
        except httpx.RemoteProtocolError:
            text = text[: text.rfind("\n") + 1]
    return answer.status_code, [json.loads(line) for line in text.splitlines()]


async def test_a_replay_over_a_lost_file_is_never_completed(house: House) -> None:
    random = Random(11)
    async with replays(house, engine()) as service:
        status, whole = await streamed(service)
        assert (status, whole[-1]["type"], whole[-1]["rows"]) == (200, "replay_completed", 6_000)
        files = data_files(house.catalog, TRADES.table)
        assert len(files) == 6
        outcomes = set()
        for number in range(FLIPS + len(files)):
            path = files[number % len(files)]
            with flipped(path, random) if number < FLIPS else missing(path):
                status, lines = await streamed(service)
            outcomes.add(status)
            if status == 200:
                assert all(line["type"] != "replay_completed" for line in lines)
                assert lines[1:] == whole[1 : len(lines)], "the first line names the session"
            else:
                assert (status, lines[0]["code"]) == (
                    503,
                    "DATA_DAMAGED" if number < FLIPS else "DATA_MISSING",
                )
        assert 503 in outcomes
        assert (await streamed(service))[1][1:-1] == whole[1:-1]
