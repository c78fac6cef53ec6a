"""Trades and quotes over HTTP: ranges, the newest per symbol, and the same by a JSON body."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response
from k2common.engine.scan import Order
from k2common.http.negotiation import MEDIA_TYPES, choose
from k2common.http.parameters import require_known
from k2common.http.streaming import StreamedResponse
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import QUOTES, TRADES, Dataset

from query_service.answers.answer_context import (
    AnswerDependencies,
    caching,
    meta_of,
    resolved,
    stream_writer,
    told_before,
    unchanged,
)
from query_service.answers.documentation import body_answers, rows_answers
from query_service.answers.formats import writer
from query_service.answers.page_tokens import KeyPage
from query_service.answers.pages import Page, page_json
from query_service.answers.parameters import ListParameters, OutputParameters, fault
from query_service.ticks import parameters as given
from query_service.ticks.latest import Latest
from query_service.ticks.rows import RowQuery, Rows, filter_digest


def rows_routes(parts: AnswerDependencies) -> APIRouter:
    """The endpoints of trades and quotes."""
    router = APIRouter(prefix="/v1", tags=["rows"])

    @router.get("/trades", summary="Trades of a range, in the total order", responses=rows_answers("Trade"))
    async def trades(request: Request, query: given.Trades) -> Response:
        return await _listing(parts, request, query, TRADES)

    @router.get("/quotes", summary="Quotes of a range, in the total order", responses=rows_answers("Quote"))
    async def quotes(request: Request, query: given.Quotes) -> Response:
        return await _listing(parts, request, query, QUOTES)

    @router.post("/trades/query", summary="Trades, asked for by a JSON body", responses=body_answers("Trade"))
    async def query_trades(request: Request, body: given.TradesBody) -> Response:
        require_known(request, ())
        return await _listing(parts, request, body, TRADES)

    @router.post("/quotes/query", summary="Quotes, asked for by a JSON body", responses=body_answers("Quote"))
    async def query_quotes(request: Request, body: given.QuotesBody) -> Response:
        require_known(request, ())
        return await _listing(parts, request, body, QUOTES)

    @router.get("/trades/latest", summary="The newest trade of each symbol", responses=rows_answers("Trade"))
    async def latest_trades(request: Request, query: given.LatestTrades) -> Response:
        return await _latest(parts, request, query, TRADES)

    @router.get("/quotes/latest", summary="The newest quote of each symbol", responses=rows_answers("Quote"))
    async def latest_quotes(request: Request, query: given.LatestQuotes) -> Response:
        return await _latest(parts, request, query, QUOTES)

    return router


async def _listing(
    parts: AnswerDependencies, request: Request, query: ListParameters, dataset: Dataset
) -> Response:
    form = choose(request, query.format)
    wanted, shape, order = query.to_filter(), query.to_shape(dataset), query.to_order()
    turned = _turned(parts, query, form)
    as_of = await resolved(parts, turned.version if turned else query.as_of, (dataset,))
    asked = RowQuery(as_of=as_of, wanted=wanted, shape=shape, order=order)
    digest = filter_digest(asked, "rows")
    _check(turned, digest)
    held = unchanged(request, as_of, query.as_of)
    if held is not None:
        return held
    rows = _rows(parts)
    if form != "json":
        unresolved = await rows.unresolved(asked, frozenset())
        made = stream_writer(parts, form, shape, as_of)
        body = rows.stream(asked, made, limit=query.limit)
        return _streamed(parts, request, query, as_of, form, body, unresolved)
    page = await rows.page(asked, limit=query.page_size(), key=turned.key if turned else None)
    unresolved = [] if turned else await rows.unresolved(asked, page.symbols)
    return _page(parts, request, query, asked, page, digest, unresolved)


def _rows(parts: AnswerDependencies) -> Rows:
    return Rows(planner=parts.planner, queries=parts.queries, blocking=parts.blocking)


async def _latest(
    parts: AnswerDependencies, request: Request, query: OutputParameters, dataset: Dataset
) -> Response:
    form = choose(request, query.format)
    wanted, shape = query.to_filter(), query.to_shape(dataset)
    turned = _turned(parts, query, form)
    as_of = await resolved(parts, turned.version if turned else query.as_of, (dataset,))
    asked = RowQuery(as_of=as_of, wanted=wanted, shape=shape, order=Order(clock=wanted.clock))
    digest = filter_digest(asked, "latest")
    _check(turned, digest)
    held = unchanged(request, as_of, query.as_of)
    if held is not None:
        return held
    limit = query.page_size() if form == "json" else query.limit
    made = writer("ndjson", shape, {}) if form == "json" else stream_writer(parts, form, shape, as_of)
    latest = Latest(planner=parts.planner, queries=parts.queries)
    found = await latest.rows(asked, made, after=turned.key[0] if turned else None, limit=limit)
    unresolved = [] if turned or found.more else sorted(set(wanted.symbols) - set(found.symbols))
    if form != "json":
        rows = _rows(parts)
        schema = await rows.schema(asked, made)
        body = rows.written(made, schema, found.rows)
        return _streamed(parts, request, query, as_of, form, body, unresolved)
    lines = found.rows["text"].to_pylist() if found.symbols else []
    page = Page(lines=lines, next_key=[found.symbols[-1]] if found.more else None)
    return _page(parts, request, query, asked, page, digest, unresolved)


def _turned(parts: AnswerDependencies, query: OutputParameters, form: str) -> KeyPage | None:
    """What the page token says; None without one. Raises Problem 400."""
    if query.page_token is None:
        return None
    if form != "json":
        raise fault("page_token", "a stream has no pages", query.page_token[:100])
    return parts.pages.rows.read(query.page_token)


def _check(turned: KeyPage | None, digest: str) -> None:
    if turned is not None and turned.filter != digest:
        raise fault("page_token", "page_token is of another request", None)


def _streamed(
    parts: AnswerDependencies,
    request: Request,
    query: OutputParameters,
    as_of: AsOf,
    form: str,
    body: AsyncGenerator[bytes, None],
    unresolved: Sequence[str],
) -> Response:
    headers = {**caching(request, as_of, query.as_of), **told_before(as_of, unresolved)}
    return StreamedResponse(
        body, reader_seconds=parts.reader_seconds, media_type=MEDIA_TYPES[form], headers=headers
    )


def _page(
    parts: AnswerDependencies,
    request: Request,
    query: OutputParameters,
    asked: RowQuery,
    page: Page,
    digest: str,
    unresolved: Sequence[str],
) -> Response:
    headers = caching(request, asked.as_of, query.as_of)
    token = None
    if page.next_key is not None:
        following = KeyPage(version=asked.as_of.token, filter=digest, key=list(page.next_key))
        token = parts.pages.rows.make(following)
        if request.method == "GET":
            headers["Link"] = f'<{request.url.include_query_params(page_token=token)}>; rel="next"'
    parts.metrics.rows.labels(asked.shape.dataset.name).inc(len(page.lines))
    meta = {
        **meta_of(request, asked.as_of, query.as_of),
        "row_count": len(page.lines),
        "unresolved": list(unresolved),
        "timezone": query.timezone,
    }
    body = page_json(page, token=token, meta=meta)
    return Response(body, media_type=MEDIA_TYPES["json"], headers=headers)
