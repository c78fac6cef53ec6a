"""The catalogue of datasets over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from k2common.engine.scan import Filter
from k2common.schemas.datasets import MARKET_DATASETS

from query_service.answers.answer_context import AnswerDependencies, meta_of, resolved, scan_of, whole_list
from query_service.answers.documentation import answers, page_of, single_of
from query_service.catalogue import datasets
from query_service.catalogue import parameters as given
from query_service.sql.views import narrowed


def datasets_routes(parts: AnswerDependencies) -> APIRouter:
    """The endpoints; the condition of each day has routes of its own."""
    router = APIRouter(prefix="/v1/datasets", tags=["catalogue"])

    @router.get(
        "", summary="The datasets with their versions and sizes", responses=answers(page_of("Dataset"))
    )
    async def listed(request: Request, query: given.Versioned) -> Response:
        known = list(MARKET_DATASETS.values())
        as_of = await resolved(parts, query.as_of, known)
        entries = []
        for dataset in known:
            plan = await parts.planner.plan(as_of, dataset, Filter())
            entries.append(datasets.entry(dataset, as_of.versions.get(dataset.table), plan))
        return whole_list(entries, meta_of(request, as_of, query.as_of))

    @router.get(
        "/{dataset}/range", summary="First and last times of a dataset", responses=answers(single_of("Range"))
    )
    async def span(request: Request, dataset: given.DatasetName, query: given.Span) -> Response:
        wanted, kind = query.to_filter(), MARKET_DATASETS[dataset]
        as_of = await resolved(parts, query.as_of, (kind,))
        found = await datasets.span(parts.queries, await scan_of(parts, as_of, kind, wanted), kind, wanted)
        return JSONResponse({"data": found, "meta": meta_of(request, as_of, query.as_of)})

    @router.get("/{dataset}/fields", summary="The columns of a dataset", responses=answers(page_of("Column")))
    async def fields(request: Request, dataset: given.DatasetName, query: given.Versioned) -> Response:
        kind = MARKET_DATASETS[dataset]
        as_of = await resolved(parts, query.as_of, (kind,))
        version = as_of.versions.get(kind.table)
        known = [] if version is None else await parts.blocking.run(parts.reader.fields, version)
        return whole_list(datasets.fields(kind, known), meta_of(request, as_of, query.as_of))

    @router.get(
        "/{dataset}/estimate", summary="What a query would touch", responses=answers(single_of("Estimate"))
    )
    async def estimate(request: Request, dataset: given.DatasetName, query: given.Estimated) -> Response:
        kind = MARKET_DATASETS[dataset]
        wanted = narrowed(query.to_filter(), kind)
        as_of = await resolved(parts, query.as_of, (kind,))
        plan = await parts.planner.plan(as_of, kind, wanted)
        found = await datasets.estimate(parts.queries, plan, wanted)
        return JSONResponse({"data": found, "meta": meta_of(request, as_of, query.as_of)})

    return router
