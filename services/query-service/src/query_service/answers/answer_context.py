"""What every endpoint does alike: resolve the version, plan, and put the answer in its envelope."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version as installed
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from k2common.engine.scan import Filter, Scan
from k2common.engine.shape import Shape
from k2common.iceberg.archive import Archive
from k2common.iceberg.reading.as_of import AsOf, resolve
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.first_reads import FirstReads
from k2common.query.queries import Queries
from k2common.query.sandbox import Sandbox
from k2common.query.timings import so_far, step
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import Dataset, OwnTable
from k2common.versions.hidden import Reason

from query_service.answers.formats import CountedWriter, Writer, writer
from query_service.answers.page_tokens import PageTokens
from query_service.answers.planning import Planner
from query_service.metrics import QueryMetrics

SOFTWARE = installed("query-service")
UNCHANGING_SECONDS = 86_400
MAX_HEADER = 4_000
PROVISIONAL = "PROVISIONAL: a later commit may still belong to this time"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDependencies:
    """What the endpoints work with. A client has `reader_seconds` to take each part of a stream."""

    reader: VersionReader
    queries: Queries
    planner: Planner
    blocking: Blocking
    metrics: QueryMetrics
    citation_key: bytes
    pages: PageTokens
    reader_seconds: float = 60.0
    sandbox: Sandbox | None = None
    archive: Archive | None = None
    first_reads: FirstReads = field(default_factory=FirstReads)


def stream_writer(parts: AnswerDependencies, form: str, shape: Shape, as_of: AsOf) -> Writer:
    """The writer of a stream, which names the version where the format has a place and counts its rows."""
    made = writer(form, shape, {"k2.version": as_of.token or ""})
    return CountedWriter(made, parts.metrics.streamed.labels(shape.dataset.name, form).inc)


async def resolved(
    parts: AnswerDependencies, text: str | None, datasets: Sequence[Dataset | OwnTable]
) -> AsOf:
    """The versions of the datasets' tables that `as_of` names. Raises as `resolve`."""
    with step("version"):
        as_of = await parts.blocking.run(resolve, parts.reader, text, [d.table for d in datasets])
    parts.first_reads.read(as_of.versions.values())
    return as_of


async def scan_of(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset | OwnTable, wanted: Filter
) -> Scan | None:
    """The files of the dataset with the wanted rows; None when the table had no version yet."""
    plan = await parts.planner.plan(as_of, dataset, wanted)
    return None if plan is None else Scan(dataset=dataset, plan=plan)


def whole_list(
    entries: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A list without further pages."""
    body = {"data": list(entries), "next_page_token": None, "meta": {**meta, "row_count": len(entries)}}
    return JSONResponse(body, headers=headers)


def meta_of(request: Request, as_of: AsOf | None, asked: str | None) -> dict[str, Any]:
    """What `meta` says of every answer."""
    return {
        "request_id": request.scope.get("k2_request_id"),
        "version": None if as_of is None else as_of.token,
        "as_of": asked,
        "warnings": warnings_of(as_of),
        "completeness": completeness_of(as_of),
        "timings": so_far(),
    }


def warnings_of(as_of: AsOf | None) -> list[str]:
    """What a reader of the answer has to know."""
    return [PROVISIONAL] if as_of is not None and as_of.provisional else []


def completeness_of(as_of: AsOf | None) -> Mapping[str, Any] | None:
    """Whether uploads were still loading in the versions, whose rows are not shown yet."""
    if as_of is None:
        return None
    loading = sum(
        entry.reason is Reason.LOADING
        for version in as_of.versions.values()
        for entry in version.hidden.values()
    )
    return {"complete": not loading and not as_of.provisional, "uploads_loading": loading}


def tag_of(request: Request, as_of: AsOf) -> str:
    """The ETag: the same for the same request on the same versions by the same software.

    It is weak, since a request's id and timings are its own and since encodings differ.
    """
    query = sorted(request.query_params.multi_items())
    accept = request.headers.get("Accept", "")
    text = repr((SOFTWARE, request.url.path, query, accept, as_of.token, as_of.provisional))
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def unchanged(request: Request, as_of: AsOf, asked: str | None) -> Response | None:
    """304 for a client that has the answer already, to be given before anything is read."""
    if request.method != "GET":
        return None
    given = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    if tag_of(request, as_of) not in given and "*" not in given:
        return None
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=caching(request, as_of, asked))


def caching(request: Request, as_of: AsOf, asked: str | None) -> dict[str, str]:
    """The headers that name the version and say how long the answer holds.

    An answer to a token never changes; any other is asked for again with its ETag.
    """
    fixed = asked is not None and "@" in asked and not as_of.provisional
    headers = {
        "X-K2-Version": as_of.token or "",
        "Vary": "Accept",
        "Cache-Control": f"private, max-age={UNCHANGING_SECONDS}" if fixed else "private, no-cache",
    }
    if request.method == "GET":
        headers["ETag"] = tag_of(request, as_of)
    return headers


def told_before(as_of: AsOf, unresolved: Sequence[str]) -> dict[str, str]:
    """What a stream says of itself before its rows: what `meta` says of a page."""
    headers = {"X-K2-Unresolved-Count": str(len(unresolved))}
    names = ",".join(quote(symbol, safe="") for symbol in unresolved)
    if names and len(names) <= MAX_HEADER:
        headers["X-K2-Unresolved"] = names
    if warnings_of(as_of):
        headers["X-K2-Warnings"] = "; ".join(warnings_of(as_of))
    return headers
