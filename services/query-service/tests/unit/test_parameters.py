"""Parameters become the conditions they name, or a problem that names the parameter at fault."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.domain.time import format_time
from k2common.engine.scan import Filter
from k2common.http.problems import Problem
from pydantic import ValidationError
from query_service.answers.parameters import (
    MAX_SYMBOLS,
    ListParameters,
    RowsParameters,
    SnapshotsParameters,
    SummaryParameters,
    VersionParameters,
    VersionsParameters,
    split,
    time_of,
)
from query_service.bars.parameters import BarsParameters
from query_service.reference.parameters import (
    ActionsParameters,
    InstrumentsParameters,
    ResolveParameters,
    SymbolsParameters,
)

DAY = date(2014, 3, 11)
MIDNIGHT_UTC = 1_394_496_000_000_000_000
HOUR = 3_600_000_000_000
NANOSECONDS = st.integers(-(2**63), 2**63 - 1)
DESCRIBED = (
    ActionsParameters,
    BarsParameters,
    InstrumentsParameters,
    ResolveParameters,
    SymbolsParameters,
    ListParameters,
    SnapshotsParameters,
    SummaryParameters,
    VersionsParameters,
)


def rows(**given: Any) -> Filter:
    return RowsParameters(**given).to_filter()


def summary(**given: Any) -> Filter:
    return SummaryParameters(**given).to_filter("BHP", DAY)


def test_without_parameters_every_row_is_wanted() -> None:
    wanted = rows()
    assert (wanted.start_ns, wanted.end_ns, wanted.source, wanted.trading_date) == (None, None, None, None)
    assert not any(
        (wanted.symbols, wanted.venues, wanted.include_conditions, wanted.exclude_conditions),
    )


def test_each_parameter_is_one_condition() -> None:
    assert rows(
        symbols="BHP,RIO",
        venues="XASX,CXA",
        source="asx",
        start="2014-03-11T00:00:00Z",
        end="2014-03-12",
        trading_date="2014-03-11",
        include_conditions="0",
        exclude_conditions="1,3,9",
    ) == Filter(
        start_ns=MIDNIGHT_UTC,
        end_ns=MIDNIGHT_UTC + 24 * HOUR,
        symbols=["BHP", "RIO"],
        venues=["XASX", "CXA"],
        source="asx",
        trading_date="2014-03-11",
        include_conditions=["0"],
        exclude_conditions=["1", "3", "9"],
    )


def test_a_summary_is_of_one_symbol_and_one_date() -> None:
    assert summary() == Filter(
        symbols=["BHP"],
        venues=[],
        trading_date="2014-03-11",
        include_conditions=[],
        exclude_conditions=[],
    )
    assert summary(
        source="asx",
        venue="XASX",
        start="2014-03-11T10:00",
        end="2014-03-11T16:00",
        timezone="Australia/Sydney",
        include_conditions="0",
        exclude_conditions="1,3",
    ) == Filter(
        start_ns=MIDNIGHT_UTC - HOUR,
        end_ns=MIDNIGHT_UTC + 5 * HOUR,
        symbols=["BHP"],
        venues=["XASX"],
        source="asx",
        trading_date="2014-03-11",
        include_conditions=["0"],
        exclude_conditions=["1", "3"],
    )


def test_a_listing_takes_the_conditions_of_its_rows() -> None:
    given = {"symbols": "BHP", "start": "5", "end": "9"}
    assert ListParameters(**given, limit=7, format="csv").to_filter() == rows(**given)


@pytest.mark.parametrize("to_filter", [rows, summary])
@pytest.mark.parametrize(
    ("zone", "ahead"),
    [("UTC", 0), ("Australia/Sydney", 11 * HOUR), ("America/New_York", -4 * HOUR), ("Asia/Tokyo", 9 * HOUR)],
)
def test_the_zone_is_for_times_that_name_none(
    to_filter: Callable[..., Filter], zone: str, ahead: int
) -> None:
    wanted = to_filter(start="2014-03-11T12:00:00", end="2014-03-13T12:00:00Z", timezone=zone)
    assert wanted.start_ns == MIDNIGHT_UTC + 12 * HOUR - ahead
    assert wanted.end_ns == MIDNIGHT_UTC + 60 * HOUR


@given(NANOSECONDS, NANOSECONDS)
def test_nanoseconds_and_their_text_are_one_range_or_one_fault(first: int, second: int) -> None:
    written = {"start": str(first), "end": str(second)}
    named = {"start": format_time(first), "end": format_time(second)}
    if first > second:
        for given_ in (written, named):
            with pytest.raises(Problem) as caught:
                rows(**given_)
            assert [error.parameter for error in caught.value.errors] == ["end"]
    else:
        for given_ in (written, named):
            wanted = rows(**given_)
            assert (wanted.start_ns, wanted.end_ns) == (first, second)


@given(
    st.text(max_size=40).filter(lambda text: text[:1] not in set("-0123456789"))
    | st.from_regex(r"\A[0-9]{4}-(0[2-9]|1[0-2])-3[2-9](T[0-9:.]{0,12}Z?)?\Z")
)
def test_whatever_is_no_time_is_a_fault_of_its_parameter(text: str) -> None:
    with pytest.raises(Problem) as caught:
        time_of("start", text, "Australia/Sydney")
    assert (caught.value.status, caught.value.code) == (400, "INVALID_PARAMETER")
    assert [(error.parameter, error.value) for error in caught.value.errors] == [("start", text)]


@pytest.mark.parametrize("to_filter", [rows, summary])
@pytest.mark.parametrize(
    ("given_", "parameter"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": ""}, "start"),
        ({"end": "2014-02-30"}, "end"),
        ({"end": "2014-03-11T25:00:00Z"}, "end"),
        ({"start": "9" * 19}, "start"),
        ({"timezone": "Sydney"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": ""}, "timezone"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value(
    to_filter: Callable[..., Filter], given_: dict[str, str], parameter: str
) -> None:
    with pytest.raises(Problem) as caught:
        to_filter(**given_)
    assert (caught.value.status, caught.value.code) == (400, "INVALID_PARAMETER")
    assert [(e.parameter, e.value) for e in caught.value.errors] == [(parameter, given_[parameter])]


def test_an_empty_range_is_a_range() -> None:
    wanted = rows(start="5", end="5")
    assert (wanted.start_ns, wanted.end_ns) == (5, 5)


def test_symbols_are_bounded_each_counted_once() -> None:
    many = [f"S{number}" for number in range(MAX_SYMBOLS)]
    assert rows(symbols=",".join([*many, *many])).symbols == many
    with pytest.raises(Problem) as caught:
        rows(symbols=",".join([*many, "ONE-MORE"]))
    (error,) = caught.value.errors
    assert error.parameter == "symbols"
    assert str(MAX_SYMBOLS) in error.message


@given(st.lists(st.text(alphabet="ABC. ", min_size=1, max_size=3)), st.data())
def test_parts_stand_once_in_the_order_of_their_first(parts: list[str], data: st.DataObject) -> None:
    commas = [data.draw(st.sampled_from([",", ",,"])) for _ in parts]
    text = "".join(part + comma for part, comma in zip(parts, commas, strict=True))
    expected: list[str] = []
    for part in parts:
        if part not in expected:
            expected.append(part)
    assert split(text) == expected


def test_no_text_has_no_parts() -> None:
    assert split(None) == []


@pytest.mark.parametrize(
    ("model", "given_"),
    [
        (RowsParameters, {"symbol": "BHP"}),
        (SummaryParameters, {"trading_date": "2014-03-11"}),
        (VersionParameters, {"asof": "trades@1"}),
        (VersionsParameters, {"table": "market.trades", "after": 1}),
        (SnapshotsParameters, {"table": "market.trades", "limit": 1}),
    ],
)
def test_an_unknown_parameter_is_refused(model: Any, given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        model(**given_)
    assert [error["type"] for error in caught.value.errors()] == ["extra_forbidden"]


@pytest.mark.parametrize(
    ("model", "given_"),
    [
        (ListParameters, {"limit": 0}),
        (RowsParameters, {"symbols": ""}),
        (RowsParameters, {"trading_date": "2014-02-30"}),
        (VersionsParameters, {"table": "trades"}),
        (VersionsParameters, {"table": "market.trades", "limit": 1_001}),
        (VersionsParameters, {"table": "market.trades", "before": 0}),
        (VersionsParameters, {}),
        (SnapshotsParameters, {}),
    ],
)
def test_a_value_out_of_bounds_is_refused(model: Any, given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        model(**given_)
    assert len(caught.value.errors()) == 1


@pytest.mark.parametrize("model", DESCRIBED)
def test_every_parameter_has_a_sentence(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("model", DESCRIBED)
def test_every_example_is_taken(model: Any) -> None:
    fields = model.model_fields.items()
    examples = {field.alias or name: field.examples[0] for name, field in fields if field.examples}
    needed = {name: "market.trades" for name, field in model.model_fields.items() if field.is_required()}
    taken = model(**{**needed, **examples})
    if isinstance(taken, RowsParameters):
        taken.to_filter()
