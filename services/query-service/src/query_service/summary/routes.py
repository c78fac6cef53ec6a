"""The endpoint of the market summary."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from k2common.schemas.datasets import QUOTES, TRADES

from query_service.answers.answer_context import (
    AnswerDependencies,
    caching,
    meta_of,
    resolved,
    scan_of,
    unchanged,
)
from query_service.answers.documentation import NOT_MODIFIED, answers, single_of
from query_service.answers.parameters import Summary
from query_service.summary.summary import summarize
from query_service.trades.conditions import rule_of

Symbol = Annotated[
    str, Path(min_length=1, max_length=256, description="The symbol, as the venue has it.", examples=["BHP"])
]
TradingDate = Annotated[date, Path(description="The date of the venue's calendar.", examples=["2014-03-11"])]


def summary_routes(parts: AnswerDependencies) -> APIRouter:
    """The market summary."""
    router = APIRouter(prefix="/v1", tags=["bars"])

    @router.get(
        "/summary/{symbol}/{trading_date}",
        summary="The market summary of a trading date",
        responses={**answers(single_of("Summary")), **NOT_MODIFIED},
    )
    async def summary(
        request: Request, symbol: Symbol, trading_date: TradingDate, query: Summary
    ) -> Response:
        wanted = query.to_filter(symbol, trading_date)
        rule = rule_of(query.off_market, wanted.include_conditions, wanted.exclude_conditions)
        base = replace(wanted, include_conditions=(), exclude_conditions=())
        as_of = await resolved(parts, query.as_of, (TRADES, QUOTES))
        held = unchanged(request, as_of, query.as_of)
        if held is not None:
            return held
        scans = {d.name: await scan_of(parts, as_of, d, base) for d in (TRADES, QUOTES)}
        figures, left_out = await summarize(
            parts.queries, trades=scans["trades"], quotes=scans["quotes"], wanted=base, rule=rule
        )
        data = {"symbol": symbol, "trading_date": trading_date.isoformat(), **figures}
        meta = {**meta_of(request, as_of, query.as_of), "timezone": query.timezone, "left_out": left_out}
        return JSONResponse({"data": data, "meta": meta}, headers=caching(request, as_of, query.as_of))

    return router
