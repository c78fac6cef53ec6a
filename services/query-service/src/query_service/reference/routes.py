"""The endpoints of reference data: what exists, between which dates, and under which names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Request
from fastapi.responses import Response
from k2common.engine.scan import Filter, Parameters, Scan
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import BARS, CORPORATE_ACTIONS, INSTRUMENTS, QUOTES, TRADES, Dataset

from query_service.answers.answer_context import AnswerDependencies, resolved, scan_of, unchanged
from query_service.answers.documentation import rows_answers
from query_service.answers.paged_answer import PagedAnswer, PagePosition, answered, turn_of
from query_service.answers.statements import Listed
from query_service.reference import parameters as given
from query_service.reference import reference

WITH_SYMBOLS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (TRADES, QUOTES, BARS)}
Statement = Callable[[Scan, Parameters], str]


def reference_routes(parts: AnswerDependencies) -> APIRouter:
    """Symbols, instruments, symbology and corporate actions."""
    router = APIRouter(prefix="/v1", tags=["reference"])

    @router.get("/symbols", summary="The symbols that a dataset has", responses=rows_answers("Symbol"))
    async def symbols(request: Request, query: given.Symbols) -> Response:
        wanted = query.to_wanted()

        def rows(scan: Scan, parameters: Parameters) -> str:
            return reference.symbols_sql(scan, wanted, parameters)

        dataset, order = WITH_SYMBOLS[query.dataset], reference.SYMBOLS_ORDER
        return await _listed(parts, request, query, dataset, rows, order=order, schema=reference.SYMBOLS)

    @router.get(
        "/instruments", summary="Instruments by symbol and date", responses=rows_answers("Instrument")
    )
    async def instruments(request: Request, query: given.Instruments) -> Response:
        rows = query.to_wanted().rows
        return await _listed(parts, request, query, INSTRUMENTS, rows, order=reference.INSTRUMENTS_ORDER)

    @router.get(
        "/symbology/resolve",
        summary="Symbols, the vendor's ids and ISINs of one another, by date",
        responses=rows_answers("ResolvedSymbol"),
    )
    async def resolve(request: Request, query: given.Resolve) -> Response:
        wanted, asked = query.to_wanted(), query.to_asked()

        def rows(scan: Scan, parameters: Parameters) -> str:
            return reference.resolved_sql(scan, wanted, parameters, asked)

        names = [name for several in asked.values() for name in several]
        return await _listed(
            parts,
            request,
            query,
            INSTRUMENTS,
            rows,
            order=reference.RESOLVED_ORDER,
            schema=reference.RESOLVED,
            names=(names, "asked"),
        )

    @router.get(
        "/corporate-actions",
        summary="Corporate actions by ex-date",
        responses=rows_answers("CorporateAction"),
    )
    async def actions(request: Request, query: given.Actions) -> Response:
        wanted = query.to_wanted()

        def rows(scan: Scan, parameters: Parameters) -> str:
            return reference.actions_sql(scan, wanted, parameters, first=query.start, end=query.end)

        return await _listed(parts, request, query, CORPORATE_ACTIONS, rows, order=reference.ACTIONS_ORDER)

    return router


async def _listed(
    parts: AnswerDependencies,
    request: Request,
    query: given.ReferenceParameters,
    dataset: Dataset,
    rows: Statement,
    *,
    order: Sequence[str],
    schema: pa.Schema | None = None,
    names: tuple[Sequence[str], str] | None = None,
) -> Response:
    """`names` has what was asked for by name and the column in which it stands; symbols without it."""
    turn, shape = turn_of(parts, request, query), query.to_shape(dataset, schema)
    as_of = await resolved(parts, turn.version or query.as_of, (dataset,))
    held = unchanged(request, as_of, query.as_of)
    if held is not None:
        return held
    scan = await _scan(parts, as_of, dataset, query)
    listed = Listed(queries=parts.queries, rows=None if scan is None else partial(rows, scan), order=order)
    asked, column = names or (query.to_wanted().symbols, "symbol")
    made = PagedAnswer(
        as_of=as_of,
        shape=shape,
        page=listed.page,
        stream=listed.stream,
        unresolved=await _unresolved(parts, turn, listed, asked, column),
        told={},
    )
    return await answered(parts, request, query, turn, made)


async def _scan(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, query: given.ReferenceParameters
) -> Scan | None:
    return await scan_of(parts, as_of, dataset, Filter(symbols=query.to_wanted().symbols))


async def _unresolved(
    parts: AnswerDependencies, turn: PagePosition, listed: Listed, asked: Sequence[str], column: str
) -> Sequence[str]:
    """The names that no row has; only the first page says so."""
    if not asked or turn.key is not None:
        return []
    known: set[Any] = set()
    if listed.rows is not None:
        parameters = Parameters()
        sql = f"SELECT DISTINCT {column} AS name FROM ({listed.rows(parameters)})"
        known = set((await parts.queries.table(sql, parameters.values))["name"].to_pylist())
    return sorted(set(asked) - known)
