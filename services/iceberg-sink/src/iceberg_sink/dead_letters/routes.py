"""`GET /v1/dead-letters` and `POST /v1/dead-letters/redrive`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from k2common.domain.dead_letters import DeadLetter, Position
from k2common.domain.time import format_datetime
from k2common.http.envelope import listing, single
from k2common.http.openapi import Operation, Parameter, many, one, reference
from k2common.http.parameters import integer, require_known
from k2common.http.problems import FieldError, Problem
from k2common.http.tokens import TokenMaker
from k2common.schemas.datasets import DEAD_LETTERED
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from iceberg_sink.dead_letters.redrive import Fate, Redriver, Selection

MOST_LETTERS = 10_000
BODY_BYTES = 1024 * 1024
LISTED = ("upload_id", "topic", "reason")


class Offset(BaseModel):
    """Where a letter lay in its topic."""

    model_config = ConfigDict(extra="forbid")

    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class RedriveRequest(BaseModel):
    """Which letters; at least one of `upload_id`, `offsets` with their `topic`, and `reason`."""

    model_config = ConfigDict(extra="forbid")

    upload_id: str | None = Field(default=None, min_length=1, max_length=64)
    topic: str | None = None
    offsets: tuple[Offset, ...] = Field(default=(), max_length=MOST_LETTERS)
    reason: str | None = Field(default=None, min_length=1, max_length=1_000)
    dry_run: bool = False

    @model_validator(mode="after")
    def _chosen(self) -> RedriveRequest:
        if self.topic is not None and self.topic not in DEAD_LETTERED:
            raise ValueError(f"topic is one of {', '.join(DEAD_LETTERED)}")
        if self.offsets and self.topic is None:
            raise ValueError("offsets are those of a topic")
        if not (self.upload_id or self.offsets or self.reason):
            raise ValueError("say which: upload_id, topic and offsets, or reason")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersPage:
    """A page of dead letters: those after this one."""

    after: Position


class DeadLetterRoutes:
    """Lists dead letters and puts them back."""

    def __init__(self, redriver: Redriver, *, page_key: bytes) -> None:
        self._redriver = redriver
        self._pages = TokenMaker(page_key, purpose="sink: page of dead letters", shape=LettersPage)

    def routes(self) -> list[BaseRoute]:
        """All routes of this module."""
        return [
            Route("/v1/dead-letters", self._list, methods=["GET"]),
            Route("/v1/dead-letters/redrive", self._redrive, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        require_known(request, (*LISTED, "limit", "page_token"))
        given = request.query_params
        limit = integer(given, "limit", default=1_000, least=1, most=MOST_LETTERS)
        token = given.get("page_token")
        after: Position | None = None if token is None else self._pages.read(token).after
        wanted = Selection(
            upload_id=given.get("upload_id"), topic=given.get("topic"), reason=given.get("reason")
        )
        found = await self._redriver.letters(wanted, limit=limit + 1, after=after)
        marked = await self._redriver.marked()
        page = found[:limit]
        following = self._pages.make(LettersPage(after=page[-1].position)) if len(found) > limit else None
        data = [
            {**_described(letter), "redriven": letter.position in marked, "value": _base64(letter.value)}
            for letter in page
        ]
        return JSONResponse(listing(data, request, token=following))

    async def _redrive(self, request: Request) -> Response:
        require_known(request, ())
        wanted = await _body(request)
        selection = Selection(
            upload_id=wanted.upload_id,
            topic=wanted.topic,
            offsets=[(chosen.partition, chosen.offset) for chosen in wanted.offsets],
            reason=wanted.reason,
        )
        result = await self._redriver.redrive(selection, limit=MOST_LETTERS, dry_run=wanted.dry_run)
        data: dict[str, Any] = {
            "dry_run": wanted.dry_run,
            "more": result.more,
            "counts": {str(what): result.counts.get(what, 0) for what in Fate},
            "refused": [
                {**_described(letter), "because": str(what)}
                for letter, what in result.fates
                if what is not Fate.REDRIVEN
            ],
        }
        return JSONResponse(single(data, request))


async def _body(request: Request) -> RedriveRequest:
    text = bytearray()
    async for part in request.stream():
        text += part
        if len(text) > BODY_BYTES:
            message = f"the body is larger than {BODY_BYTES} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE", message)
    try:
        return RedriveRequest.model_validate_json(bytes(text))
    except ValidationError as error:
        errors = [
            FieldError(parameter="/" + "/".join(map(str, e["loc"])), code="INVALID", message=e["msg"])
            for e in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        detail = "; ".join(entry.message for entry in errors)
        raise Problem(HTTPStatus.BAD_REQUEST, "INVALID_PARAMETER", detail, errors=errors) from error


def _described(letter: DeadLetter) -> dict[str, Any]:
    return {
        "topic": letter.topic,
        "epoch": letter.epoch,
        "partition": letter.partition,
        "offset": letter.offset,
        "upload_id": letter.upload_id,
        "schema_id": letter.schema_id,
        "reason": letter.reason,
        "lettered_at": format_datetime(letter.lettered_at),
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_NUMBER = {"type": "integer"}
_LETTER: Mapping[str, Any] = {
    **dict.fromkeys(("topic", "reason", "lettered_at"), _TEXT),
    **dict.fromkeys(("epoch", "partition", "offset"), _NUMBER),
    "upload_id": _MAYBE,
    "schema_id": {"type": ["integer", "null"]},
}


def _object(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


SCHEMAS: Mapping[str, Any] = {
    "DeadLetter": _object({**_LETTER, "redriven": {"type": "boolean"}, "value": _MAYBE}),
    "Redrive": _object(
        {
            "dry_run": {"type": "boolean"},
            "more": {"type": "boolean"},
            "counts": _object({str(what): _NUMBER for what in Fate}),
            "refused": {"type": "array", "items": _object({**_LETTER, "because": _TEXT})},
        }
    ),
}
_BODY = RedriveRequest.model_json_schema(ref_template="#/components/schemas/{model}")
SCHEMAS = {**SCHEMAS, **_BODY.pop("$defs")}
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/dead-letters",
        summary="Messages that are no records, by topic and offset, with their bytes as base64.",
        parameters=(
            Parameter(name="upload_id", description="Of this upload.", schema={"type": "string"}),
            Parameter(
                name="topic",
                description="Of this topic.",
                schema={"type": "string"},
                example="market.trades.v1",
            ),
            Parameter(name="reason", description="Of exactly this reason.", schema={"type": "string"}),
            Parameter(
                name="limit",
                description="At most so many.",
                schema={"type": "integer", "minimum": 1, "maximum": MOST_LETTERS, "default": 1_000},
            ),
            Parameter(
                name="page_token",
                description="From the answer before, for the next page.",
                schema={"type": "string"},
            ),
        ),
        answers={200: many(reference("DeadLetter"))},
    ),
    Operation(
        method="post",
        path="/v1/dead-letters/redrive",
        summary="Put chosen letters back into their topic, each once, or only say what would become of them.",
        body={"application/json": _BODY},
        answers={200: one(reference("Redrive"))},
        problems=(413,),
    ),
)
