"""What an upload is depends on everything that changes its rows, and on nothing else."""

import json
from typing import Any

import pytest
from ingest_gateway.uploads.requests import UploadRequest, read_request, read_transfer
from k2common.http.problems import Problem
from k2common.layouts.catalogue import Catalogue, builtin_layouts, layout_named
from k2common.layouts.cutter import CutPosition, Header
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request

LAYOUTS = Catalogue(builtin_layouts())


def request(headers: dict[str, str] | None = None, **parameters: str) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/uploads",
        "query_string": str(QueryParams(parameters)).encode(),
        "headers": Headers(headers or {}).raw,
    }
    return Request(scope)


def read(**parameters: str) -> UploadRequest:
    return read_request(request(**{"dataset": "trades", **parameters}), LAYOUTS)


def header(*names: str) -> Header:
    return Header(text=",".join(names), names=names, after=CutPosition())


def test_equal_uploads_are_one() -> None:
    assert read(venue="X").identity("abc") == read(venue="X").identity("abc")
    assert read().identity("abc") != read().identity("abd")


@pytest.mark.parametrize(
    "parameters",
    [
        {"dataset": "quotes"},
        {"source": "s"},
        {"symbol": "S"},
        {"venue": "V"},
        {"asset_class": "equity"},
        {"currency": "USD"},
        {"timezone": "Europe/Paris"},
        {"on_error": "abort"},
        {"max_reject_ratio": "0.5"},
    ],
)
def test_every_parameter_that_changes_rows_makes_another_upload(parameters: dict[str, str]) -> None:
    assert read(**parameters).identity("abc") != read().identity("abc")


def test_a_label_and_a_name_that_says_nothing_change_nothing() -> None:
    assert read(batch="b", filename="f.csv").identity("abc") == read().identity("abc")


def test_the_name_counts_where_it_names_the_instrument() -> None:
    first, second = (read(layout="asx-trades", filename=name) for name in ("1.csv", "2.csv"))
    assert first.needs_instruments
    assert first.identity("abc") != second.identity("abc")
    assert not read(layout="asx-trades", symbol="BHP").needs_instruments


def test_an_inline_layout_is_one_by_its_content() -> None:
    document = json.loads(layout_named("k2", dataset="trades").canonical_json)
    given = read(layout=json.dumps(document, indent=3))
    assert given.identity("abc") == read().identity("abc")
    other = read(layout=json.dumps({**document, "timezone": "Asia/Tokyo"}))
    assert other.identity("abc") != given.identity("abc")


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"datset": "trades"}, "datset"),
        ({"dataset": "ticks"}, "dataset"),
        ({"on_error": "ignore"}, "on_error"),
        ({"max_reject_ratio": "2"}, "max_reject_ratio"),
        ({"max_reject_ratio": "some"}, "max_reject_ratio"),
        ({"timezone": "Sydney"}, "timezone"),
        ({"asset_class": "stock"}, "asset_class"),
        ({"symbol": ""}, "symbol"),
        ({"source": "a\nb"}, "source"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, str], parameter: str) -> None:
    with pytest.raises(Problem) as caught:
        read(**parameters)
    assert caught.value.status == 400
    assert [error.parameter for error in caught.value.errors] == [parameter]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"layout": "nasdaq"}, "there is no layout"),
        ({"layout": "asx-quotes"}, "for quotes, not for trades"),
        ({"layout": "{}"}, "not valid"),
    ],
)
def test_a_layout_that_does_not_fit_is_422(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(Problem, match=words) as caught:
        read(**parameters)
    assert (caught.value.status, caught.value.code) == (422, "INVALID_LAYOUT")


@pytest.mark.parametrize("headers", [{"Content-Encoding": "br"}, {"Content-Type": "application/json"}])
def test_a_body_that_is_no_plain_csv_is_415(headers: dict[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        read_transfer(request(headers, dataset="trades"))
    assert caught.value.status == 415


def test_a_symbol_or_venue_that_nobody_names_is_422() -> None:
    wanted = read()
    with pytest.raises(Problem) as caught:
        wanted.check_header(header("price", "size", "ts_event"))
    assert [error.parameter for error in caught.value.errors] == ["symbol", "venue"]
    wanted.check_header(header("price", "size", "symbol", "venue"))
    read(symbol="S", venue="V").check_header(header("price", "size"))
    wanted.check_header(None)
