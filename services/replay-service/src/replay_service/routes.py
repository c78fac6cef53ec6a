"""The replay service's HTTP endpoints."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from k2common.domain.time import format_datetime
from k2common.http.negotiation import MEDIA_TYPES
from k2common.http.parameters import integer, invalid, require_known
from k2common.http.problems import FieldError, Problem
from k2common.http.streaming import StreamedResponse
from k2common.http.tokens import TokenMaker
from k2common.iceberg.reading.as_of import resolve
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.admission import CALLER
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import DATASETS
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from ulid import ULID

from replay_service.metrics import ReplayMetrics
from replay_service.request import ReplayRequest
from replay_service.sessions import Session, Sessions
from replay_service.stream import Checkpoint, Completed, Cursor, CursorToken, Part, Replay, in_band

MAX_BODY_BYTES = 1_000_000
DEFAULT_LIMIT = 100
MAX_LIMIT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsPage:
    """A page of sessions: those before this id."""

    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Handlers over what the service holds."""

    sessions: Sessions
    reader: VersionReader
    queries: Queries
    blocking: Blocking
    clock: Clock
    metrics: ReplayMetrics
    cursors: TokenMaker[CursorToken]
    pages: TokenMaker[SessionsPage]
    reader_seconds: float

    def routes(self) -> Sequence[Route]:
        """Path by path."""
        return [
            Route("/v1/replays", self.post, methods=["POST"]),
            Route("/v1/replays", self.list, methods=["GET"]),
            Route("/v1/replays/{session_id}", self.get, methods=["GET"]),
            Route("/v1/replays/{session_id}", self.delete, methods=["DELETE"]),
            Route("/v1/replays/{session_id}/stream", self.stream, methods=["GET"]),
        ]

    async def post(self, request: Request) -> Response:
        """Create a session on one version: 201."""
        require_known(request, ())
        wanted = ReplayRequest.read(await _body(request))
        tables = [DATASETS[name].table for name in wanted.datasets]
        as_of = await self.blocking.run(resolve, self.reader, wanted.as_of, tables)
        if as_of.token is None:
            raise Problem(HTTPStatus.NOT_FOUND, "NO_VERSION", f"{', '.join(tables)} had no version then")
        now = self.clock.now()
        session = Session(
            session_id=str(ULID.from_datetime(now)),
            state="created",
            request=wanted.model_dump_json(),
            version=as_of.token,
            created_at=now,
            updated_at=now,
            caller=CALLER.get(),
        )
        await self.sessions.create(session)
        self.metrics.sessions.inc()
        headers = {"Location": f"/v1/replays/{session.session_id}"}
        return JSONResponse(_single(session, request), HTTPStatus.CREATED, headers=headers)

    async def get(self, request: Request) -> Response:
        """One session."""
        require_known(request, ())
        return JSONResponse(_single(self.sessions.get(request.path_params["session_id"]), request))

    async def list(self, request: Request) -> Response:
        """All sessions, newest first, in pages."""
        require_known(request, ("limit", "page_token"))
        limit = integer(request.query_params, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)
        given = request.query_params.get("page_token")
        before = "~" if given is None else self.pages.read(given).before
        known = [session for session in self.sessions.list() if session.session_id < before]
        page, more = known[:limit], len(known) > limit
        token = self.pages.make(SessionsPage(before=page[-1].session_id)) if more else None
        data = [_document(session) for session in page]
        return JSONResponse({"data": data, "next_page_token": token, "meta": _meta(request)})

    async def delete(self, request: Request) -> Response:
        """Forget a session: 204."""
        require_known(request, ())
        await self.sessions.delete(request.path_params["session_id"])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def stream(self, request: Request) -> Response:
        """The rows as NDJSON; `cursor` goes on after a checkpoint."""
        require_known(request, ("cursor",))
        session = self.sessions.get(request.path_params["session_id"])
        cursor = self._cursor(session, request.query_params.get("cursor"))
        wanted = ReplayRequest.model_validate_json(session.request)
        tables = [DATASETS[name].table for name in wanted.datasets]
        as_of = await self.blocking.run(resolve, self.reader, session.version, tables)
        replay = Replay(
            datasets=wanted.datasets,
            wanted=wanted.to_filter(),
            as_of=as_of,
            reader=self.reader,
            queries=self.queries,
            blocking=self.blocking,
        )
        headers = {"X-K2-Version": session.version}
        return StreamedResponse(
            self._lines(session, replay, cursor),
            reader_seconds=self.reader_seconds,
            media_type=MEDIA_TYPES["ndjson"],
            headers=headers,
        )

    async def _lines(self, session: Session, replay: Replay, cursor: Cursor) -> AsyncGenerator[bytes, None]:
        async with aclosing(replay.parts(cursor)) as parts:
            # A stream that gets no place is refused before the answer begins.
            part: Part | None = await anext(parts)
            with self.metrics.one_stream():
                yield in_band("replay_started", **_document(session))
                while part is not None:
                    yield self._line(session, part)
                    part = await anext(parts, None)

    def _line(self, session: Session, part: Part) -> bytes:
        if isinstance(part, Checkpoint):
            token = self.cursors.make(part.cursor.to_token(session.session_id))
            return in_band("checkpoint", rows=part.rows, digest=part.digest, cursor=token)
        if isinstance(part, Completed):
            return in_band("replay_completed", rows=part.rows, digest=part.digest)
        self.metrics.rows.inc(part.rows)
        self.metrics.bytes.inc(len(part.text))
        return part.text

    def _cursor(self, session: Session, token: str | None) -> Cursor:
        if token is None:
            return Cursor()
        found = self.cursors.read(token)
        if found.session != session.session_id:
            message = "cursor is of another replay"
            raise invalid([FieldError(parameter="cursor", code="INVALID", message=message)])
        return Cursor.from_token(found)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "BODY_TOO_LARGE",
                f"the body is longer than {MAX_BODY_BYTES} bytes",
            )
    return body


def _document(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "state": session.state,
        "version": session.version,
        "request": json.loads(session.request),
        "created_at": format_datetime(session.created_at),
    }


def _single(session: Session, request: Request) -> Mapping[str, Any]:
    return {"data": _document(session), "meta": {**_meta(request), "version": session.version}}


def _meta(request: Request) -> dict[str, Any]:
    return {"request_id": request.scope.get("k2_request_id")}
