"""The query service's HTTP endpoints."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from query_service.answers import parameters
from query_service.answers.answer_context import AnswerDependencies, meta_of, whole_list
from query_service.answers.documentation import answers, page_of
from query_service.catalogue import versions as catalogue

LISTED = answers(page_of("Version"))


def routes(parts: AnswerDependencies) -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/v1")

    @router.get("/versions", summary="The versions of a table, newest first", responses=LISTED)
    async def versions(request: Request, query: parameters.Versions) -> Response:
        found = await parts.blocking.run(
            parts.reader.history, query.table, before=query.before, limit=query.limit
        )
        return whole_list([catalogue.version_entry(entry) for entry in found], meta_of(request, None, None))

    @router.get("/snapshots", summary="The live Iceberg snapshots of a table, newest first", responses=LISTED)
    async def snapshots(request: Request, query: parameters.Snapshots) -> Response:
        found = await parts.blocking.run(parts.reader.snapshots, query.table)
        return whole_list([catalogue.version_entry(entry) for entry in found], meta_of(request, None, None))

    return router
