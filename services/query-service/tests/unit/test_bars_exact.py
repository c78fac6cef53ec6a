"""Figures of bars are exact, adjusted ones too, and vendors' bars come as they are."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx
import pytest
from k2common.iceberg.catalogs.catalog import Catalog
from k2common.schemas.datasets import BARS, CORPORATE_ACTIONS, TRADES
from k2common.testing.rows import append_rows
from query_service.bars.adjustments import Action, adjusting


def trades(*rows: tuple[str, str, str], **given: Any) -> list[dict[str, Any]]:
    """Trades of 11 March 2014 by their time, price and size."""
    return [
        {"ts_event": f"2014-03-11T{at}Z", "price": price, "size": size, **given} for at, price, size in rows
    ]


async def data(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/bars", params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def refused(client: httpx.AsyncClient, **parameters: Any) -> tuple[int, str, list[str]]:
    answer = await client.get("/v1/bars", params=parameters)
    problem = answer.json()
    return answer.status_code, problem["code"], [error.get("parameter") for error in problem["errors"]]


def picked(rows: Sequence[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


async def test_the_mean_is_rounded_half_to_even(catalog: Catalog, client: httpx.AsyncClient) -> None:
    # Means that end in 5e-13: one above an even digit, one above an odd one.
    rows = trades(("01:00:01", "1.000000000000", "1"), ("01:00:02", "1.000000000001", "1"))
    rows += trades(("01:01:01", "1.000000000001", "1"), ("01:01:02", "1.000000000002", "1"))
    append_rows(catalog, TRADES, rows)
    found = await data(client, timeframe="1Min")
    assert picked(found, "vwap") == [("1",), ("1.000000000002",)]


async def test_a_split_and_a_dividend_by_hand(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = [
        {"ts_event": f"2014-03-{day}T0{hour}:00:00Z", "price": price, "size": size, "sequence": hour}
        for day, hour, price, size in (
            (11, 1, "30", "10"),
            (11, 2, "36", "20"),
            (12, 1, "12", "30"),  # three for one
            (13, 1, "11.40", "7"),  # 0.60 less
        )
    ]
    append_rows(catalog, TRADES, rows)
    actions = [
        {"kind": "split", "ex_date": date(2014, 3, 12), "ratio": "3"},
        {"kind": "dividend", "ex_date": date(2014, 3, 13), "amount": "0.36", "currency": "AUD"},
        {"kind": "dividend", "ex_date": date(2014, 3, 13), "amount": "0.24", "currency": "AUD"},
        {"kind": "dividend", "ex_date": date(2014, 3, 12), "amount": "0.5", "currency": "USD"},
        {"kind": "merger", "ex_date": date(2014, 3, 12), "ratio": "7"},
        {"kind": "split", "ex_date": date(2099, 1, 1), "ratio": "2"},
    ]
    append_rows(catalog, CORPORATE_ACTIONS, actions)
    names = ("open", "close", "volume", "vwap")
    split = picked(await data(client, timeframe="1Day", adjustment="split"), *names)
    # (10 * 30 + 20 * 36) / 30 = 34, over 3.
    assert split == [
        ("10", "12", "90", "11.333333333333"),
        ("12", "12", "30", "12"),
        ("11.4", "11.4", "7", "11.4"),
    ]
    # 1 - 0.6 / 12 = 0.95.
    paid = picked(await data(client, timeframe="1Day", adjustment="dividend"), *names)
    assert paid == [
        ("28.5", "34.2", "30", "32.3"),
        ("11.4", "11.4", "30", "11.4"),
        ("11.4", "11.4", "7", "11.4"),
    ]
    both = (await client.get("/v1/bars", params={"timeframe": "1Month", "adjustment": "all"})).json()
    # 9.5 and 11.4 for 30 and 60, then 11.4 for 30 and 7: the first day's mean is 10.766666666667 for 90.
    assert picked(both["data"], "open", "high", "low", "close", "volume", "trade_count") == [
        ("9.5", "11.4", "9.5", "11.4", "127", 4)
    ]
    total = Decimal("10.766666666667") * 90 + Decimal("11.4") * 37
    assert Decimal(both["data"][0]["vwap"]) == (total / 127).quantize(Decimal("1e-12"))
    # Held: 9.5 for an hour and 11.4 for 23, which is 11.320833333333, then 11.4 for 24.
    assert both["data"][0]["twap"] == "11.360416666666"
    told = {
        (n["kind"], n["ex_date"]): (n["price_factor"], n["not_applied"])
        for n in both["meta"]["adjustment"]["actions"]
    }
    assert told == {
        ("split", "2014-03-12"): ("1/3", None),
        ("dividend", "2014-03-13"): ("19/20", None),
        ("dividend", "2014-03-12"): (None, "OTHER_CURRENCY"),
    }
    early = picked(await data(client, timeframe="1Day", adjustment="all", adjusted_to="2014-03-11"), *names)
    assert early == picked(await data(client, timeframe="1Day"), *names)
    filled = await data(client, timeframe="12Hour", adjustment="split", fill="prev", limit=3)
    assert picked(filled, "close") == [("12",), ("12",), ("12",)]


async def test_actions_of_several_sources_are_not_multiplied(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    rows = [{"ts_event": f"2014-03-{day}T01:00:00Z", "price": "30", "size": "10"} for day in (11, 12)]
    append_rows(catalog, TRADES, rows)
    actions = [
        {"kind": "split", "ex_date": date(2014, 3, 12), "ratio": "3", "source": name} for name in ("a", "b")
    ]
    append_rows(catalog, CORPORATE_ACTIONS, actions)
    assert await refused(client, timeframe="1Day", adjustment="all") == (422, "AMBIGUOUS_SOURCE", [])
    found = await data(client, timeframe="1Day", adjustment="all", adjustment_source="b")
    assert picked(found, "close") == [("10",), ("30",)]


async def test_vendors_bars_come_as_they_are(catalog: Catalog, client: httpx.AsyncClient) -> None:
    figures = {"open": "1", "high": "4", "low": "0.5", "close": "2", "volume": "100"}
    rows = [
        {"ts_event": f"2014-03-{day}T01:0{n}:00Z", "timeframe": spelled, **figures, "trade_count": n}
        for day in (11, 12)
        for n, spelled in enumerate(("1Min", "1m", "5Min"))
    ]
    append_rows(catalog, BARS, rows)
    found = await data(client, timeframe="1Min", origin="vendor")
    assert picked(found, "ts_event", "close", "trade_count", "vwap", "twap", "ts_end_ns") == [
        (f"2014-03-{day}T01:0{n}:00.000000000Z", "2", n, None, None, None) for day in (11, 12) for n in (0, 1)
    ]
    append_rows(
        catalog,
        CORPORATE_ACTIONS,
        [
            {"kind": "split", "ex_date": date(2014, 3, 12), "ratio": "2"},
            {"kind": "dividend", "ex_date": date(2014, 3, 12), "amount": "0.5"},
        ],
    )
    found = await data(client, timeframe="1Min", origin="vendor", adjustment="all")
    assert picked(found, "open", "volume") == [("0.375", "200")] * 2 + [("1", "100")] * 2
    assert await refused(client, timeframe="1Min", origin="vendor", fill="prev") == (
        400,
        "INVALID_PARAMETER",
        ["fill"],
    )
    assert await refused(client, timeframe="tick:5", origin="vendor") == (
        400,
        "INVALID_PARAMETER",
        ["timeframe"],
    )


async def test_sums_past_the_plain_way_are_exact(catalog: Catalog, client: httpx.AsyncClient) -> None:
    rows = trades(*[(f"01:00:0{n}", f"8000000.00000000000{n}", "9000000.5") for n in range(1, 4)])
    append_rows(catalog, TRADES, rows)
    (bar,) = await data(client, timeframe="1Day")
    assert (bar["vwap"], bar["volume"]) == ("8000000.000000000002", "27000001.5")
    found = await data(
        client, timeframe="1Min", fill="prev", start="2014-03-11T01:00", end="2014-03-11T01:03"
    )
    assert picked(found, "vwap") == [
        ("8000000.000000000002",),
        ("8000000.000000000003",),
        ("8000000.000000000003",),
    ]


async def test_more_digits_than_can_be_given_are_refused(catalog: Catalog, client: httpx.AsyncClient) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "9000000000", "9000000000")))
    assert await refused(client, timeframe="dollar:5") == (422, "VALUE_OUT_OF_RANGE", [])


async def test_negative_prices_and_empty_sizes_have_figures(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    append_rows(catalog, TRADES, trades(("01:00:01", "-37.63", "2"), ("01:00:02", "-37.62", "1")))
    append_rows(catalog, TRADES, trades(("02:00:01", "5", "0")))
    found = await data(client, timeframe="1Hour")
    assert picked(found, "vwap", "volume", "close") == [("-37.626666666667", "3", "-37.62"), (None, "0", "5")]


def test_the_multipliers_are_those_of_the_source() -> None:
    """The example of *What is the adjusted close?*: two for one, then 0.08 after a close of 24.95."""
    series = {"symbol": "X", "venue": "V"}
    split = Action(**series, kind="split", ex_date=date(2020, 2, 18), ratio=Decimal(2))
    close = Decimal("24.95")
    dividend = Action(
        **series, kind="dividend", ex_date=date(2020, 2, 21), amount=Decimal("0.08"), close=close
    )
    first, second, last = adjusting([dividend, split]).segments
    assert [round(Fraction(price) * first.price, 2) for price in ("46.99", "48.30")] == [
        Fraction("23.42"),
        Fraction("24.07"),
    ]
    assert round(Fraction("24.96") * second.price, 2) == Fraction("24.88")
    assert (last.price, last.volume, first.volume) == (1, 1, 2)
    assert (first.end_day, second.first_day, second.end_day) == (
        split.ex_date,
        split.ex_date,
        dividend.ex_date,
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": "split"}, "NO_RATIO"),
        ({"kind": "split", "ratio": Decimal(0)}, "NO_RATIO"),
        ({"kind": "dividend", "close": Decimal(1)}, "NO_AMOUNT"),
        ({"kind": "dividend", "amount": Decimal(1)}, "NO_CLOSE"),
        ({"kind": "dividend", "amount": Decimal(2), "close": Decimal(2)}, "AMOUNT_NOT_BELOW_CLOSE"),
        (
            {
                "kind": "dividend",
                "amount": Decimal(1),
                "close": Decimal(2),
                "currency": "USD",
                "close_currency": "AUD",
            },
            "OTHER_CURRENCY",
        ),
    ],
)
def test_an_action_that_cannot_be_applied_says_why(given: dict[str, Any], reason: str) -> None:
    found = adjusting([Action(symbol="X", venue="V", ex_date=date(2020, 2, 18), **given)])
    assert ([note["not_applied"] for note in found.notes], list(found.segments)) == ([reason], [])
