"""SQL over the tables of one version, run in a sandbox."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from k2common.engine.scan import Scan
from k2common.engine.statements import StatementRefused
from k2common.http.negotiation import MEDIA_TYPES, choose
from k2common.http.problems import Problem
from k2common.http.streaming import StreamedResponse
from k2common.iceberg.reading.as_of import AsOf
from k2common.query.sandbox import Sandbox, Statement, Task
from starlette.types import Receive, Send
from starlette.types import Scope as HttpScope

from query_service.answers.answer_context import AnswerDependencies, meta_of, resolved, scan_of
from query_service.answers.documentation import body_answers
from query_service.sql.parameters import SqlRequest
from query_service.sql.views import VIEWS, narrowed, task_of


def sql_routes(parts: AnswerDependencies, sandbox: Sandbox) -> APIRouter:
    """The endpoint."""
    router = APIRouter(prefix="/v1", tags=["sql"])

    @router.post(
        "/sql", summary="Read-only SQL over the tables of one version", responses=body_answers("SqlRow")
    )
    async def sql(request: Request, query: SqlRequest) -> Response:
        form = choose(request, query.format)
        limit = query.rows(form)
        async with AsyncExitStack() as stack:
            try:
                statement = await stack.enter_async_context(sandbox.statement(query.sql, VIEWS.keys()))
                as_of, task = await _planned(parts, query, statement, form, limit)
                body = statement.run(task)
                first = await anext(body, b"")
                meta = meta_of(request, as_of, query.as_of)
                if form == "json":
                    return await _whole(first, body, statement, meta)
            except StatementRefused as error:
                raise problem_of(error) from error
            headers = {"X-K2-Version": meta["version"] or ""}
            # From here on the answer keeps the process, and ends it.
            return _Answer(
                _with_first(first, body),
                stack.pop_all(),
                reader_seconds=parts.reader_seconds,
                media_type=MEDIA_TYPES[form],
                headers=headers,
            )

    return router


def problem_of(error: StatementRefused) -> Problem:
    """Problem 400 for what is no SQL, 422 for what is not allowed, with the position in the text."""
    status, code = HTTPStatus.UNPROCESSABLE_ENTITY, "SQL_NOT_ALLOWED"
    if error.malformed:
        status, code = HTTPStatus.BAD_REQUEST, "SQL_INVALID"
    return Problem(status, code, str(error), extra={"position": error.position})


async def _planned(
    parts: AnswerDependencies, query: SqlRequest, statement: Statement, form: str, limit: int | None
) -> tuple[AsOf | None, Task]:
    wanted = query.to_filter()
    datasets = [VIEWS[name] for name in statement.tables]
    as_of = await resolved(parts, query.as_of, datasets) if datasets else None
    scans: dict[str, Scan | None] = {}
    if as_of is not None:
        for dataset in datasets:
            scan = await scan_of(parts, as_of, dataset, narrowed(wanted, dataset))
            scans[dataset.name] = scan
            if scan is not None:
                # The statement's process reads files by itself.
                await parts.blocking.run(scan.plan.verify, scan.plan.paths)
    task = task_of(scans, wanted, form=form, limit=limit, parameters=query.parameters, in_order=query.sorted)
    return as_of, task


async def _whole(
    first: bytes, body: AsyncIterator[bytes], statement: Statement, meta: Mapping[str, Any]
) -> Response:
    lines = [first, *[part async for part in body]]
    ended = statement.ended
    known = {**meta, "row_count": ended and ended.rows, "truncated": ended and ended.more}
    head = b'{"data":[' + b"".join(lines).rstrip(b"\n").replace(b"\n", b",")
    rest = json.dumps({"next_page_token": None, "meta": known}, separators=(",", ":")).encode()
    return Response(head + b"]," + rest[1:], media_type=MEDIA_TYPES["json"])


class _Answer(StreamedResponse):
    """A stream that ends its statement, whether it was sent whole, cut off or never begun."""

    def __init__(self, body: AsyncGenerator[bytes, None], stack: AsyncExitStack, **more: Any) -> None:
        super().__init__(body, **more)
        self._stack = stack

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _with_first(first: bytes, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for part in body:
        yield part
