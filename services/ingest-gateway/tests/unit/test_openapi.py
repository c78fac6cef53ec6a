"""The document says what the gateway has; that it keeps it is shown end to end."""

from typing import Any, cast

from ingest_gateway.http.layout_routes import LayoutRoutes
from ingest_gateway.http.openapi import OPERATIONS, UPLOAD_PARAMETERS, api
from ingest_gateway.http.routes import Routes
from ingest_gateway.uploads.requests import PARAMETERS


def test_every_route_is_documented_and_every_documented_one_exists() -> None:
    parts = cast(
        Any,
        dict.fromkeys(
            ("reception", "tracker", "rejects", "changes", "past", "archive", "blocking", "layouts")
        ),
    )
    uploads = Routes(**parts, page_key=b"k2")
    layouts = LayoutRoutes(cast(Any, None), blocking=cast(Any, None), clock=cast(Any, None))
    routes = [*uploads.routes(), *layouts.routes()]
    served = {(m.lower(), route.path) for route in routes for m in route.methods or () if m != "HEAD"}
    assert served == {(operation.method, operation.path) for operation in OPERATIONS}


def test_the_parameters_of_an_upload_are_those_it_takes() -> None:
    assert {parameter.name for parameter in UPLOAD_PARAMETERS} == set(PARAMETERS)


def test_every_parameter_has_a_sentence_and_a_bound() -> None:
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            assert parameter.description.endswith(".")
            bounded = {"enum", "maxLength", "maximum", "pattern", "format"} & set(parameter.schema)
            assert bounded or parameter.name in ("layout", "Content-Digest"), parameter.name


def test_references_lead_somewhere() -> None:
    text = str(api())
    for name in ("Receipt", "Trial", "Reject", "Batch", "Problem"):
        assert f"#/components/schemas/{name}" in text
        assert name in api()["components"]["schemas"]
