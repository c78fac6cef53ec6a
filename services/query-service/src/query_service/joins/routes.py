"""The endpoint of the as-of join."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response
from k2common.schemas.datasets import QUOTES, TRADES

from query_service.answers.answer_context import AnswerDependencies, resolved, unchanged
from query_service.answers.documentation import rows_answers
from query_service.answers.paged_answer import PagedAnswer, answered, turn_of
from query_service.joins.joins import SCHEMA, Joins, Question
from query_service.joins.parameters import Join


def joins_routes(parts: AnswerDependencies) -> APIRouter:
    """Trades with quotes."""
    router = APIRouter(prefix="/v1", tags=["joins"])
    joins = Joins(parts)

    @router.get(
        "/joins/trades-quotes",
        summary="Trades of a range, each with the quote that stood before it",
        responses=rows_answers("TradeWithQuote"),
    )
    async def trades_quotes(request: Request, query: Join) -> Response:
        turn, shape = turn_of(parts, request, query), query.to_shape(TRADES, SCHEMA)
        wanted, tolerance = query.to_filter(), query.tolerance_ns()
        as_of = await resolved(parts, turn.version or query.as_of, (TRADES, QUOTES))
        held = unchanged(request, as_of, query.as_of)
        if held is not None:
            return held
        question = Question(
            as_of=as_of,
            wanted=wanted,
            match=query.match,
            tolerance_ns=tolerance,
            quote_source=query.quote_source,
        )
        made = PagedAnswer(
            as_of=as_of,
            shape=shape,
            page=partial(joins.page, question),
            stream=partial(joins.stream, question),
            unresolved=[] if turn.key is not None else await joins.check(question),
            told={"match": query.match, "tolerance_ns": str(tolerance)},
        )
        return await answered(parts, request, query, turn, made)

    return router
