"""The query service's HTTP endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from k2common.engine.scan import Filter
from k2common.http.negotiation import MEDIA_TYPES, choose
from k2common.http.paging import sign, verify
from k2common.schemas.datasets import INSTRUMENTS, QUOTES, TRADES, Dataset

from query_service import catalogue, parameters
from query_service.answers import Parts, meta_of, resolved, scan_of, whole_list
from query_service.rows import Page, filter_digest, page_json
from query_service.summary import summarize

DEFAULT_PAGE = 1_000


def routes(parts: Parts) -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/v1")

    @router.get("/trades", summary="Trades of a range, in the total order")
    async def trades(request: Request, query: parameters.Listing) -> Response:
        return await _listing(parts, request, query, TRADES)

    @router.get("/quotes", summary="Quotes of a range, in the total order")
    async def quotes(request: Request, query: parameters.Listing) -> Response:
        return await _listing(parts, request, query, QUOTES)

    @router.get("/summary/{symbol}/{trading_date}", summary="The market summary of a trading date")
    async def summary(
        request: Request, symbol: str, trading_date: date, query: parameters.Summary
    ) -> Response:
        as_of = await resolved(parts, query.as_of, (TRADES, QUOTES))
        wanted = query.to_filter(symbol, trading_date)
        scans = {d.name: await scan_of(parts, as_of, d, wanted) for d in (TRADES, QUOTES)}
        figures = await summarize(
            parts.queries, trades=scans["trades"], quotes=scans["quotes"], wanted=wanted
        )
        data = {"symbol": symbol, "trading_date": trading_date.isoformat(), **figures}
        return JSONResponse({"data": data, "meta": meta_of(request, as_of, query.as_of)})

    @router.get("/symbols", summary="The symbols that a dataset has")
    async def symbols(request: Request, query: parameters.Symbols) -> Response:
        dataset = TRADES if query.dataset == "trades" else QUOTES
        as_of = await resolved(parts, query.as_of, (dataset,))
        found = await catalogue.symbols(parts.queries, await scan_of(parts, as_of, dataset, Filter()))
        return whole_list(found, meta_of(request, as_of, query.as_of))

    @router.get("/instruments", summary="Reference data: instruments by symbol")
    async def instruments(request: Request, query: parameters.Instruments) -> Response:
        as_of = await resolved(parts, query.as_of, (INSTRUMENTS,))
        wanted = [] if query.symbols == "*" else parameters.split(query.symbols)
        scan = await scan_of(parts, as_of, INSTRUMENTS, Filter(symbols=wanted))
        lines = await catalogue.instruments(parts.queries, scan, wanted)
        meta = {**meta_of(request, as_of, query.as_of), "row_count": len(lines)}
        page = Page(lines=lines, next_key=None)
        return Response(page_json(page, token=None, meta=meta), media_type=MEDIA_TYPES["json"])

    @router.get("/versions", summary="The versions of a table, newest first")
    async def versions(request: Request, query: parameters.Versions) -> Response:
        found = await parts.blocking.run(
            parts.reader.history, query.table, before=query.before, limit=query.limit
        )
        return whole_list([catalogue.version_entry(entry) for entry in found], meta_of(request, None, None))

    @router.get("/snapshots", summary="The live Iceberg snapshots of a table, newest first")
    async def snapshots(request: Request, query: parameters.Snapshots) -> Response:
        found = await parts.blocking.run(parts.reader.snapshots, query.table)
        return whole_list([catalogue.version_entry(entry) for entry in found], meta_of(request, None, None))

    return router


async def _listing(
    parts: Parts, request: Request, query: parameters.ListParameters, dataset: Dataset
) -> Response:
    form = choose(request, query.format)
    wanted = query.to_filter()
    if form == "json":
        return await _page(parts, request, query, dataset, wanted)
    if query.page_token is not None:
        raise parameters.fault("page_token", "a stream has no pages", query.page_token[:100])
    as_of = await resolved(parts, query.as_of, (dataset,))
    headers = {"X-K2-Version": as_of.token or ""}
    body = _counted(parts, parts.rows.stream(dataset, as_of, wanted, form=form, limit=query.limit))
    return StreamingResponse(body, media_type=MEDIA_TYPES[form], headers=headers)


async def _counted(parts: Parts, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in body:
        if part:
            yield part


async def _page(
    parts: Parts, request: Request, query: parameters.ListParameters, dataset: Dataset, wanted: Filter
) -> Response:
    limit = query.limit or DEFAULT_PAGE
    if limit > parameters.MAX_PAGE:
        raise parameters.fault("limit", f"a page has at most {parameters.MAX_PAGE} rows", str(limit))
    digest = filter_digest(wanted, dataset)
    turned = {} if query.page_token is None else verify(query.page_token, parts.page_key)
    if turned and turned["filter"] != digest:
        raise parameters.fault("page_token", "page_token is of another request", None)
    as_of = await resolved(parts, turned.get("version", query.as_of), (dataset,))
    page = await parts.rows.page(dataset, as_of, wanted, limit=limit, key=turned.get("key"))
    unresolved = [] if turned else await parts.rows.unresolved(dataset, as_of, wanted)
    token = None
    headers = {}
    if page.next_key is not None:
        payload = {"version": as_of.token, "filter": digest, "key": list(page.next_key)}
        token = sign(payload, parts.page_key)
        headers["Link"] = f'<{request.url.include_query_params(page_token=token)}>; rel="next"'
    parts.metrics.rows.labels(dataset.name).inc(len(page.lines))
    meta = {
        **meta_of(request, as_of, query.as_of),
        "row_count": len(page.lines),
        "unresolved": list(unresolved),
        "timezone": query.timezone,
    }
    body = page_json(page, token=token, meta=meta)
    return Response(body, media_type=MEDIA_TYPES["json"], headers=headers)
