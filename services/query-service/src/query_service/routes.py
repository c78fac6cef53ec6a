"""The query service's HTTP endpoints."""

from __future__ import annotations

from datetime import date

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from k2common.engine.scan import Filter
from k2common.http.negotiation import MEDIA_TYPES
from k2common.schemas.datasets import INSTRUMENTS, QUOTES, TRADES

from query_service import catalogue, parameters
from query_service.answers import Parts, meta_of, resolved, scan_of, whole_list
from query_service.rows import Page, page_json
from query_service.summary import summarize


def routes(parts: Parts) -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/v1")

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
