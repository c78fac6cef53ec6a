"""The document says what the sink has, each parameter with its sentence and bound."""

from typing import Any, cast

from iceberg_sink.dead_letters.routes import DeadLetterRoutes
from iceberg_sink.maintenance.routes import MaintenanceRoutes
from iceberg_sink.openapi import OPERATIONS, api
from iceberg_sink.repair.routes import RepairRoutes
from iceberg_sink.tags.routes import TagRoutes

NONE = cast(Any, None)


def test_every_route_is_documented_and_every_documented_one_exists() -> None:
    tags = TagRoutes(NONE, NONE, blocking=NONE, clock=NONE)
    letters = DeadLetterRoutes(NONE, page_key=b"")
    routes = [
        *tags.routes(),
        *MaintenanceRoutes(NONE).routes(),
        *RepairRoutes({}).routes(),
        *letters.routes(),
    ]
    served = {(m.lower(), route.path) for route in routes for m in route.methods or () if m != "HEAD"}
    assert served == {(operation.method, operation.path) for operation in OPERATIONS}


def test_every_parameter_has_a_sentence_and_a_bound() -> None:
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            assert parameter.description.endswith(".")
            assert {"enum", "maxLength", "maximum", "pattern", "type"} & set(parameter.schema)


def test_references_lead_somewhere() -> None:
    schemas = api()["components"]["schemas"]
    text = str(api())
    assert all(f"#/components/schemas/{name}" in text for name in schemas)
