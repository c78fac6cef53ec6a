"""Where a row came from, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from k2common.engine.scan import Scan
from k2common.http.problems import Problem
from k2common.iceberg.archive import Archive, ContentGone
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import DATASETS, REJECTS, UPLOADS, Dataset

from query_service.answers.answer_context import AnswerDependencies, meta_of, resolved
from query_service.answers.documentation import answers, single_of
from query_service.catalogue.parameters import Versioned
from query_service.provenance.provenance import dialect_of, receipt_of, record_at, reject_of, row_of

UploadId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=64,
        description="The upload's id, as its receipt says it.",
        examples=["01M86KAY8WBQN4BGJ0DGREQQCB"],
    ),
]
Line = Annotated[
    int,
    Path(
        ge=1,
        le=2**62,
        description="The physical line of the file, from 1, on which the record starts.",
        examples=[2],
    ),
]


def provenance_routes(parts: AnswerDependencies, archive: Archive) -> APIRouter:
    """The endpoint."""
    router = APIRouter(prefix="/v1/uploads", tags=["provenance"])

    @router.get(
        "/{upload_id}/rows/{line}", summary="A row and its raw line", responses=answers(single_of("Origin"))
    )
    async def traced(request: Request, upload_id: UploadId, line: Line, query: Versioned) -> Response:
        receipt = await _receipt(parts, upload_id)
        dataset = DATASETS[receipt["dataset"]]
        as_of = await resolved(parts, query.as_of, (dataset,))
        scan = await _scan(parts, as_of, dataset, upload_id)
        found = await row_of(parts.queries, scan, dataset.topic, upload_id, line)
        reject = None if found else await _reject(parts, upload_id, line)
        if found is None and reject is None:
            raise _no_row(as_of, dataset, upload_id, line)
        data = {
            **(found or {"row": None, "kafka": None}),
            "reject": reject,
            "raw": await _raw(parts, archive, receipt, line),
            "file": {name: receipt[name] for name in ("filename", "sha256", "bytes", "layout", "source")},
            "upload_id": upload_id,
            "line": line,
            "visible_since": receipt["version"],
        }
        return JSONResponse({"data": data, "meta": meta_of(request, as_of, query.as_of)})

    return router


async def _receipt(parts: AnswerDependencies, upload_id: str) -> Mapping[str, Any]:
    for attempt in range(2):
        if attempt:
            await parts.blocking.run(parts.reader.refresh, UPLOADS.table)
        newest = await resolved(parts, None, (UPLOADS,))
        scan = await _scan(parts, newest, UPLOADS, upload_id)
        receipt = await receipt_of(parts.queries, scan, upload_id)
        if receipt is not None:
            return receipt
    raise Problem(
        HTTPStatus.NOT_FOUND, "UPLOAD_NOT_FOUND", f"no upload {upload_id} has its final receipt in the tables"
    )


async def _reject(parts: AnswerDependencies, upload_id: str, line: int) -> Mapping[str, Any] | None:
    newest = await resolved(parts, None, (REJECTS,))
    return await reject_of(parts.queries, await _scan(parts, newest, REJECTS, upload_id), upload_id, line)


async def _scan(parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, upload_id: str) -> Scan | None:
    version = as_of.versions.get(dataset.table)
    if version is None:
        return None
    plan = await parts.blocking.run(parts.reader.plan, version, upload_id=upload_id)
    return Scan(dataset=dataset, plan=plan)


async def _raw(
    parts: AnswerDependencies, archive: Archive, receipt: Mapping[str, Any], line: int
) -> str | None:
    """The record as it stands in the file; None when the archive no longer holds the file."""
    delimiter, encoding = dialect_of(receipt)

    def read() -> bytes | None:
        return record_at(archive.content(receipt["sha256"]), line, delimiter=delimiter)

    try:
        record = await parts.blocking.run(read)
    except ContentGone:
        return None
    return None if record is None else record.decode(encoding, errors="replace")


def _no_row(as_of: AsOf, dataset: Dataset, upload_id: str, line: int) -> Problem:
    version = as_of.versions.get(dataset.table)
    entry = None if version is None else version.hidden.get(upload_id)
    why = "gave no row" if entry is None else f"is of an upload that is {entry.reason} in this version"
    return Problem(HTTPStatus.NOT_FOUND, "ROW_NOT_FOUND", f"line {line} of {upload_id} {why}")
