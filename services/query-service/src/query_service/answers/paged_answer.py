"""Answers that are made of a range and no rows of a table: pages and streams in the form of all others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from fastapi import Request
from fastapi.responses import Response
from k2common.engine.scan import Parameters, no_rows_sql
from k2common.engine.shape import Shape
from k2common.http.negotiation import MEDIA_TYPES, choose
from k2common.http.streaming import StreamedResponse
from k2common.iceberg.reading.as_of import AsOf

from query_service.answers.answer_context import (
    MAX_HEADER,
    AnswerDependencies,
    caching,
    meta_of,
    stream_writer,
    told_before,
)
from query_service.answers.formats import Writer
from query_service.answers.page_tokens import KeyPage
from query_service.answers.pages import Page, page_json
from query_service.answers.parameters import fault

KINDS: Mapping[Any, str] = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
    pa.decimal128(28, 12): "DECIMAL(28, 12)",
    pa.decimal128(38, 12): "DECIMAL(38, 12)",
    pa.list_(pa.string()): "VARCHAR[]",
}
UNBOUND = {"limit", "page_token", "format", "as_of", "fields", "price_format", "timestamp_format"}
"""Parameters that may change from page to page."""


class RangeQuery(Protocol):
    """The parameters that such an answer takes."""

    @property
    def as_of(self) -> str | None: ...

    @property
    def timezone(self) -> str: ...

    @property
    def limit(self) -> int | None: ...

    @property
    def page_token(self) -> str | None: ...

    @property
    def format(self) -> str | None: ...

    def page_size(self) -> int: ...

    def model_dump_json(self, *, exclude: set[str]) -> str: ...


PageOf = Callable[[str, int, Sequence[Any] | None], Awaitable[tuple[pa.Table | None, Sequence[Any] | None]]]
"""Columns as SQL, number of rows and the key before them, to rows and the key of the last if more come."""

StreamOf = Callable[[str, int | None], AsyncGenerator[pa.RecordBatch, None]]
"""Columns as SQL and the number of rows, None for all, to batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedAnswer:
    """An answer before it is written. `told` goes into `meta`, and its texts into a stream's headers."""

    as_of: AsOf
    shape: Shape
    page: PageOf
    stream: StreamOf
    unresolved: Sequence[str]
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePosition:
    """In which format, from which place on."""

    form: str
    version: str | None = None
    key: Sequence[Any] | None = None


def turn_of(parts: AnswerDependencies, request: Request, query: RangeQuery) -> PagePosition:
    """The format, and what the page token says.

    Raises Problem 400 for a token of another request, for a stream with one, and for a page that is too long.
    """
    form = choose(request, query.format)
    if form != "json":
        if query.page_token is not None:
            raise fault("page_token", "a stream has no pages", query.page_token[:100])
        return PagePosition(form=form)
    query.page_size()
    if query.page_token is None:
        return PagePosition(form=form)
    turned = parts.pages.ranges.read(query.page_token)
    if turned.filter != _digest(query):
        raise fault("page_token", "page_token is of another request", None)
    return PagePosition(form=form, version=turned.version, key=turned.key)


async def answered(
    parts: AnswerDependencies, request: Request, query: RangeQuery, turn: PagePosition, made: PagedAnswer
) -> Response:
    """The answer in its format."""
    headers = caching(request, made.as_of, query.as_of)
    if turn.form != "json":
        headers |= {**told_before(made.as_of, made.unresolved), **_headers(made.told)}
        by = stream_writer(parts, turn.form, made.shape, made.as_of)
        return StreamedResponse(
            _written(parts, by, made, query.limit),
            reader_seconds=parts.reader_seconds,
            media_type=MEDIA_TYPES[turn.form],
            headers=headers,
        )
    rows, key = await made.page(f"{made.shape.json(Parameters())} AS text", query.page_size(), turn.key)
    page = Page(lines=[] if rows is None else rows["text"].to_pylist(), next_key=key)
    token = None
    if key is not None:
        following = KeyPage(version=made.as_of.token, filter=_digest(query), key=list(key))
        token = parts.pages.ranges.make(following)
        if request.method == "GET":
            headers["Link"] = f'<{request.url.include_query_params(page_token=token)}>; rel="next"'
    parts.metrics.rows.labels(made.shape.dataset.name).inc(len(page.lines))
    meta = {
        **meta_of(request, made.as_of, query.as_of),
        "row_count": len(page.lines),
        "unresolved": list(made.unresolved),
        "timezone": query.timezone,
        **made.told,
    }
    body = page_json(page, token=token, meta=meta)
    return Response(body, media_type=MEDIA_TYPES["json"], headers=headers)


async def _written(
    parts: AnswerDependencies, by: Writer, made: PagedAnswer, limit: int | None
) -> AsyncGenerator[bytes, None]:
    columns = by.select(Parameters())
    # The schema is known before the first row, and where there is none.
    none = await parts.queries.table(f"SELECT {columns} FROM ({_no_rows(made.shape)})", {})
    yield by.start(none.schema)
    batches = made.stream(columns, limit)
    async with aclosing(batches):
        async for batch in batches:
            yield await parts.blocking.run(by.rows, batch)
    yield by.end()


def _no_rows(shape: Shape) -> str:
    if shape.schema is None:
        return no_rows_sql(shape.dataset)
    columns = [f'CAST(NULL AS {KINDS[field.type]}) AS "{field.name}"' for field in shape.schema]
    return f"SELECT {', '.join(columns)} WHERE false"


def _headers(told: Mapping[str, Any]) -> Mapping[str, str]:
    """What is told as one header of ASCII JSON, where it is short enough."""
    text = json.dumps(told, separators=(",", ":"))
    return {"X-K2-Meta": text} if len(text) <= MAX_HEADER else {}


def _digest(query: RangeQuery) -> str:
    text = f"{type(query).__name__} {query.model_dump_json(exclude=UNBOUND)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
