"""Whatever is asked of the query service, it answers as its OpenAPI document says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from k2common.iceberg.catalog import Catalog
from k2common.runtime.service import Runtime
from k2common.settings.service import HttpSettings
from pydantic import SecretStr
from query_service.app import application, parts_of
from query_service.settings import QuerySettings
from schemathesis.checks import CHECKS, load_all_checks
from starlette.types import Receive, Scope, Send

from tests.integration.query.serving import serving

SECRET = SecretStr("a-secret-of-the-tests")

load_all_checks()
# The same requests in every run; with a number of examples others, to look for more.
WANTED = os.environ.get("K2_OPENAPI_EXAMPLES")
EXAMPLES = int(WANTED or "8")
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
LATER = (503, 504)
"""What a busy service may answer at any time, as documented."""

schemathesis.openapi.format("k2-page-token", st.nothing() | st.just("x"))


class Delegate:
    """The application of the moment: the document is needed before there is one."""

    now: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.now is not None
        await self.now(scope, receive, send)


def document() -> dict[str, Any]:
    """The OpenAPI document, which does not depend on what the endpoints work with."""
    nothing = parts_of(
        cast(Any, None),
        cast(Any, None),
        cast(Any, None),
        settings=QuerySettings(citation_key=SECRET, page_key=SECRET),
        metrics=cast(Any, None),
    )
    return application(nothing, Runtime(), HttpSettings(port=8004)).openapi()


delegate = Delegate()
schema = schemathesis.openapi.from_dict(document())
schema.app = delegate


@pytest.fixture(scope="module", autouse=True)
def app(catalog: Catalog) -> Iterator[FastAPI]:
    with serving(catalog) as made:
        delegate.now = made
        yield made


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=WANTED is None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_the_service_answers_as_documented(case: Any) -> None:
    answer = case.call()
    if answer.status_code in LATER:
        assert answer.headers["content-type"] == ["application/problem+json"]
        return
    case.validate_response(answer, checks=[CHECKS.get_one(name) for name in CHECKED])
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["code"]
        assert problem["status"] == answer.status_code


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
