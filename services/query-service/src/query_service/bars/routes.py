"""The endpoints of bars."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from k2common.http.parameters import require_known
from k2common.schemas.datasets import BARS, CORPORATE_ACTIONS, TRADES

from query_service.answers.answer_context import AnswerDependencies, resolved, unchanged
from query_service.answers.documentation import body_answers, rows_answers
from query_service.answers.paged_answer import PagedAnswer, answered, turn_of
from query_service.bars.bars import SCHEMA, Bars, Prepared, Question
from query_service.bars.parameters import BarsBody, BarsParameters, BarsQuery

MAX_NOTES = 1_000


def bars_routes(parts: AnswerDependencies) -> APIRouter:
    """Bars, by query string and by body."""
    router = APIRouter(prefix="/v1", tags=["bars"])
    bars = Bars(parts)

    @router.get(
        "/bars",
        summary="Bars of time, trades, volume or money, from trades or as vendors sent them",
        responses=rows_answers("Bar"),
    )
    async def by_query(request: Request, query: BarsQuery) -> Response:
        return await _answer(parts, bars, request, query)

    @router.post("/bars/query", summary="Bars, asked for by a JSON body", responses=body_answers("Bar"))
    async def by_body(request: Request, body: BarsBody) -> Response:
        require_known(request, ())
        return await _answer(parts, bars, request, body)

    return router


async def _answer(parts: AnswerDependencies, bars: Bars, request: Request, query: BarsParameters) -> Response:
    turn = turn_of(parts, request, query)
    question, shape = query.to_question(), query.to_shape(BARS, SCHEMA)
    tables = [BARS if question.vendor else TRADES]
    if question.adjustment != "raw":
        tables.append(CORPORATE_ACTIONS)
    as_of = await resolved(parts, turn.version or query.as_of, tables)
    held = unchanged(request, as_of, query.as_of)
    if held is not None:
        return held
    prepared = await bars.prepare(as_of, question)
    made = PagedAnswer(
        as_of=as_of,
        shape=shape,
        page=partial(bars.page, prepared),
        stream=partial(bars.stream, prepared),
        unresolved=sorted(set(question.wanted.symbols) - {one.symbol for one in prepared.series}),
        told=_told(prepared, question),
    )
    return await answered(parts, request, query, turn, made)


def _told(prepared: Prepared, question: Question) -> Mapping[str, Any]:
    notes = prepared.adjusting.notes
    return {
        "left_out": prepared.survey.meta(),
        "adjustment": {
            "kind": question.adjustment,
            "actions": list(notes[:MAX_NOTES]),
            "not_applied": sum(1 for note in notes if note["not_applied"]),
        },
    }
