"""The OpenAPI documents of all services are valid, and say what clients are generated from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.documents import DOCUMENTS, operations

PROBES = ("/", "/openapi.json", "/docs", "/livez", "/readyz", "/metrics")
EVERYWHERE = {"400", "401", "403", "429", "503"}
ROWS = {
    "/v1/trades": "Trade",
    "/v1/trades/query": "Trade",
    "/v1/trades/latest": "Trade",
    "/v1/quotes": "Quote",
    "/v1/quotes/query": "Quote",
    "/v1/quotes/latest": "Quote",
    "/v1/bars": "Bar",
    "/v1/bars/query": "Bar",
    "/v1/joins/trades-quotes": "TradeWithQuote",
    "/v1/symbols": "Symbol",
    "/v1/instruments": "Instrument",
    "/v1/symbology/resolve": "ResolvedSymbol",
    "/v1/corporate-actions": "CorporateAction",
}


@pytest.fixture(scope="module", params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return DOCUMENTS[request.param]()


@pytest.fixture(scope="module")
def query_service() -> Mapping[str, Any]:
    return DOCUMENTS["query-service"]()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_a_document_is_valid(document: Mapping[str, Any]) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_references_lead_to_components_and_every_component_is_used(document: Mapping[str, Any]) -> None:
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    used = set(references(document))
    assert used <= named
    assert named - used <= {"#/components/schemas/Problem"}


def test_operation_ids_are_unique_names_of_functions(document: Mapping[str, Any]) -> None:
    ids = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in ids)
    assert set(ids.values()) == {1}


def test_every_operation_but_the_probes_says_which_key_it_needs(document: Mapping[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    for _, path, operation in operations(document):
        if path in PROBES:
            assert operation["security"] == []
        else:
            assert [set(choice) for choice in operation["security"]] == [{name} for name in schemes]


def test_every_operation_documents_what_the_shared_middleware_answers(document: Mapping[str, Any]) -> None:
    for method, path, operation in operations(document):
        if path in PROBES:
            continue
        wanted = EVERYWHERE | ({"413"} if "requestBody" in operation else set())
        assert wanted <= operation["responses"].keys(), (method, path)
        for status in operation["responses"]:
            if status >= "4":
                assert "application/problem+json" in operation["responses"][status]["content"]


def test_every_answer_of_json_has_a_schema(document: Mapping[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            for media, content in answer.get("content", {}).items():
                assert content.get("schema"), (method, path, status, media)


def test_path_parameters_are_declared_and_required(document: Mapping[str, Any]) -> None:
    for method, path, operation in operations(document):
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path" and p["required"]}
        assert declared == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_the_probes_are_documented_by_every_service(document: Mapping[str, Any]) -> None:
    assert set(PROBES) <= document["paths"].keys()


@pytest.mark.parametrize(("path", "name"), ROWS.items())
def test_rows_have_the_types_of_their_columns(query_service: Mapping[str, Any], path: str, name: str) -> None:
    (operation,) = query_service["paths"][path].values()
    page = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert page["properties"]["data"]["items"] == {"$ref": f"#/components/schemas/{name}"}
    columns = query_service["components"]["schemas"][name]["properties"]
    assert all(column.get("type") for column in columns.values())


def test_a_trade_has_its_columns_with_their_sentences(query_service: Mapping[str, Any]) -> None:
    trade = query_service["components"]["schemas"]["Trade"]["properties"]
    assert trade["price"]["type"] == ["string", "number"]
    assert trade["ts_event_ns"]["type"] == "string"
    assert trade["trading_date"] == {**trade["trading_date"], "type": "string", "format": "date"}
    assert trade["conditions"] == {**trade["conditions"], "type": "array", "items": {"type": "string"}}
    assert trade["trade_id"]["type"] == ["string", "null"]
    assert all(column["description"] for column in trade.values())


def test_the_body_of_an_upload_can_be_sent_by_generated_clients() -> None:
    document = DOCUMENTS["ingest-gateway"]()
    content = document["paths"]["/v1/uploads"]["post"]["requestBody"]["content"]
    # Generators that know no text/csv take one of the others.
    assert {"text/csv", "application/octet-stream", "multipart/form-data"} <= content.keys()
    detected = document["paths"]["/v1/layouts/detect"]["post"]["requestBody"]["content"]
    assert {"text/csv", "application/octet-stream"} <= detected.keys()
    assert content["text/csv"]["schema"] == {"type": "string", "format": "binary"}
    form = content["multipart/form-data"]["schema"]
    form = document["components"]["schemas"][form["$ref"].rpartition("/")[2]] if "$ref" in form else form
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}
    assert form["required"] == ["file"]


def test_parameters_without_which_an_answer_is_400_are_required() -> None:
    tags = DOCUMENTS["iceberg-sink"]()["paths"]["/v1/tags"]["post"]["parameters"]
    assert [p["name"] for p in tags if p["required"]] == ["name"]
