"""Citations over HTTP: made from an answer, and verified by asking again."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from k2common.domain.time import format_datetime
from k2common.http.openapi import WITH_BODY
from k2common.http.problems import Problem
from k2common.runtime.clock import Clock
from pydantic import BaseModel, ConfigDict, Field

from query_service.answers.answer_context import SOFTWARE
from query_service.answers.documentation import answers, single_of
from query_service.citations.citations import Rows, citation, is_genuine
from query_service.citations.in_process_client import Rerun

ENDPOINTS = Literal["trades", "quotes", "bars", "joins/trades-quotes", "sql"]
META: Mapping[str, Any] = {"type": "object", "properties": {"request_id": {"type": ["string", "null"]}}}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CitationRequest(_Body):
    """The answer to cite."""

    endpoint: ENDPOINTS = Field(description="Whose answer: its path below /v1/.", examples=["trades"])
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        max_length=100,
        description="The request's parameters; for sql the fields of its body.",
        examples=[{"symbols": "BHP", "start": "2014-03-11", "as_of": "trades@12"}],
    )


class Citation(_Body):
    """A citation as it was given."""

    endpoint: ENDPOINTS = Field(description="Whose answer.", examples=["trades"])
    parameters: dict[str, Any] = Field(max_length=100, description="The request.", examples=[{}])
    version: str | None = Field(max_length=500, description="The token.", examples=["trades@12"])
    rows: int = Field(ge=0, description="How many rows.", examples=[21681])
    sha256: str = Field(max_length=64, description="The digest of the canonical rows.", examples=["9f2c"])
    software: str = Field(max_length=64, description="Which version answered.", examples=["0.1.0"])
    made_at: str = Field(max_length=40, description="When.", examples=["2026-01-05T09:30:00.000000000Z"])
    signature: str = Field(max_length=64, description="Of all the rest.", examples=["5d41"])


CITED = answers(single_of("SignedCitation", META), *WITH_BODY)
VERIFIED = answers(single_of("VerifiedCitation", META), *WITH_BODY)


def citations_routes(rerun: Rerun, *, key: bytes, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter(prefix="/v1/citations", tags=["citations"])

    @router.post("", summary="A signed document that names an answer for good", responses=CITED)
    async def cite(request: Request, body: CitationRequest) -> Response:
        rows = await _rows(rerun, request, body.endpoint, body.parameters)
        document = citation(
            endpoint=body.endpoint,
            parameters=body.parameters,
            rows=rows,
            software=SOFTWARE,
            made_at=format_datetime(clock.now()),
            key=key,
        )
        return _single(request, document)

    @router.post("/verify", summary="Whether a citation still holds", responses=VERIFIED)
    async def verify(request: Request, body: Citation) -> Response:
        document = body.model_dump()
        if not is_genuine(document, key):
            raise Problem(
                HTTPStatus.BAD_REQUEST, "INVALID_CITATION", "the citation was changed, or made by others"
            )
        found = await _rows(rerun, request, body.endpoint, {**body.parameters, "as_of": body.version})
        holds = (found.rows, found.sha256) == (body.rows, body.sha256)
        data = {"holds": holds, "rows": found.rows, "sha256": found.sha256, "software": SOFTWARE}
        return _single(request, data)

    return router


async def _rows(rerun: Rerun, request: Request, endpoint: str, parameters: Mapping[str, Any]) -> Rows:
    if refused := sorted({"format", "page_token"} & parameters.keys()):
        message = f"{refused[0]} does not belong to a citation"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "NOT_CITABLE", message)
    path = f"/v1/{endpoint}"
    if endpoint == "sql":
        # Only rows in one order have one digest.
        body = {**parameters, "format": "arrow", "sorted": True}
        found = await rerun.post(request, path, body)
    else:
        found = await rerun.get(request, path, parameters)
    if found.rows < 0:
        message = f"the rows have no canonical form: {found.sha256}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "NOT_CITABLE", message)
    return found


def _single(request: Request, data: Mapping[str, Any]) -> Response:
    return JSONResponse({"data": dict(data), "meta": {"request_id": request.scope.get("k2_request_id")}})
