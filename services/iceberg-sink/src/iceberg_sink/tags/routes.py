"""The endpoints about tags: names for tokens over several tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from k2common.domain.time import format_datetime
from k2common.errors import RecordError
from k2common.http.envelope import listing, single
from k2common.http.openapi import Operation, Parameter, many, one, reference
from k2common.http.parameters import invalid, require_known
from k2common.http.problems import FieldError, Problem
from k2common.iceberg.reading.reader import UnknownVersion, VersionGone, VersionReader
from k2common.iceberg.reading.tags import NAME, Tag, Tags
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import VERSIONED_TABLES
from k2common.versions.version import MARKET, format_token, parse_token
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_TOKEN = 500
PATH = "/v1/tags/{name}"
VERSIONED = frozenset(VERSIONED_TABLES)


class TagRoutes:
    """Handlers over the table of tags."""

    def __init__(self, tags: Tags, reader: VersionReader, *, blocking: Blocking, clock: Clock) -> None:
        self._tags = tags
        self._reader = reader
        self._blocking = blocking
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """Path by path."""
        return [
            Route("/v1/tags", self.list, methods=["GET"]),
            Route("/v1/tags", self.put, methods=["POST"]),
            Route(PATH, self.get, methods=["GET"]),
            Route(PATH, self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Every tag, by name."""
        require_known(request, ())
        found = await self._blocking.run(self._tags.all)
        return JSONResponse(listing([_entry(tag) for tag in found], request))

    async def get(self, request: Request) -> Response:
        """One tag."""
        require_known(request, ())
        return JSONResponse(single(_entry(await self._known(request)), request))

    async def put(self, request: Request) -> Response:
        """Make or move a tag: 201 for a new name, 200 for one that stood for something already."""
        require_known(request, ("name", "token"))
        name, token = request.query_params.get("name", ""), request.query_params.get("token")
        if NAME.fullmatch(name) is None:
            message = "name is a letter, then letters, digits, '.', '_' or '-', 100 characters at most"
            raise invalid([FieldError(parameter="name", code="INVALID", message=message, value=name[:100])])
        token = await self._blocking.run(self._checked, token)
        before = await self._blocking.run(self._tags.find, name)
        tag = await self._blocking.run(self._tags.put, name, token, now=self._clock.now())
        status = HTTPStatus.CREATED if before is None else HTTPStatus.OK
        return JSONResponse(single(_entry(tag), request), status, headers={"Location": f"/v1/tags/{name}"})

    async def delete(self, request: Request) -> Response:
        """Delete a tag; the versions that it stood for stay."""
        require_known(request, ())
        tag = await self._known(request)
        await self._blocking.run(self._tags.put, tag.name, None, now=self._clock.now())
        return JSONResponse(single(_entry(tag), request))

    async def _known(self, request: Request) -> Tag:
        name = request.path_params["name"]
        tag = await self._blocking.run(self._tags.find, name)
        if tag is None:
            raise Problem(HTTPStatus.NOT_FOUND, "TAG_UNKNOWN", f"there is no tag {name}")
        return tag

    def _checked(self, text: str | None) -> str:
        """The token in its one form, every version of which can be read; that of the heads for None."""
        if text is None:
            return self._heads()
        try:
            numbers = parse_token(text)
            if unknown := sorted(numbers.keys() - VERSIONED):
                raise UnknownVersion(f"there are no versions of {', '.join(unknown)}")
            for table in numbers:
                self._reader.refresh(table)
            return format_token({table: self._reader.at(table, n).number for table, n in numbers.items()})
        except UnknownVersion as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "VERSION_UNKNOWN", str(error)) from error
        except VersionGone as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "VERSION_GONE", str(error)) from error
        except RecordError as error:
            fault = FieldError(parameter="token", code="INVALID", message=str(error), value=text[:MAX_TOKEN])
            raise invalid([fault]) from error

    def _heads(self) -> str:
        heads = {table: self._reader.refresh(table) for table in VERSIONED if table.startswith(MARKET)}
        token = format_token({table: head.number for table, head in heads.items() if head is not None})
        if not token:
            message = "no table has a version yet"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "VERSION_UNKNOWN", message)
        return token


def _entry(tag: Tag) -> Mapping[str, Any]:
    return {"name": tag.name, "token": tag.token, "changed_at": format_datetime(tag.changed_at)}


SCHEMAS: Mapping[str, Any] = {
    "Tag": {
        "type": "object",
        "required": ["name", "token", "changed_at"],
        "properties": {key: {"type": "string"} for key in ("name", "token", "changed_at")},
        "additionalProperties": False,
    }
}
_NAME = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_PATH_NAME = Parameter(
    name="name", description="The tag's name.", schema=_NAME, example="eod-2014-03-11", place="path"
)
_TAG = one(reference("Tag"))
OPERATIONS = (
    Operation(method="get", path="/v1/tags", summary="Every tag.", answers={200: many(reference("Tag"))}),
    Operation(
        method="post",
        path="/v1/tags",
        summary="Let a name stand for versions of several tables: 201 for a new name, 200 for a known one.",
        parameters=(
            Parameter(
                name="name",
                description="A letter, then letters, digits, '.', '_' or '-'.",
                schema=_NAME,
                example="eod-2014-03-11",
                required=True,
            ),
            Parameter(
                name="token",
                description="The versions; the newest of every market table without it.",
                schema={"type": "string", "maxLength": MAX_TOKEN},
                example="trades@12,quotes@9",
            ),
        ),
        answers={200: _TAG, 201: _TAG},
        problems=(422,),
    ),
    Operation(
        method="get",
        path=PATH,
        summary="One tag.",
        parameters=(_PATH_NAME,),
        answers={200: _TAG},
        problems=(404,),
    ),
    Operation(
        method="delete",
        path=PATH,
        summary="Delete a tag; the versions that it stood for stay.",
        parameters=(_PATH_NAME,),
        answers={200: _TAG},
        problems=(404,),
    ),
)
