"""The OpenAPI document of the query service says of each parameter what it is and what may stand there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from k2common.iceberg.catalogs.catalog import Catalog

from tests.integration.query.serving import serving


@pytest.fixture(scope="module")
def app(catalog: Catalog) -> Iterator[FastAPI]:
    with serving(catalog) as made:
        yield made


def test_every_parameter_has_a_sentence_and_an_example_or_a_choice(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                named = (path, parameter["name"])
                assert parameter.get("description") or parameter["in"] == "path", named
                if parameter["in"] != "query":
                    continue
                shape = parameter["schema"]
                chosen = any("enum" in part or "const" in part for part in (shape, *shape.get("anyOf", ())))
                assert chosen or shape.get("examples") or "format" in shape, named
