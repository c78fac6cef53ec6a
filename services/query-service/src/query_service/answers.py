"""What every endpoint does alike: resolve the version, plan, and put the answer in its envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from k2common.engine.scan import Filter, Scan
from k2common.iceberg.asof import AsOf, resolve
from k2common.iceberg.reader import VersionReader
from k2common.runtime.blocking import Blocking
from k2common.runtime.queries import Queries
from k2common.schemas.datasets import Dataset

from query_service.metrics import QueryMetrics
from query_service.rows import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the endpoints work with."""

    reader: VersionReader
    queries: Queries
    rows: Rows
    blocking: Blocking
    metrics: QueryMetrics
    page_key: bytes


async def resolved(parts: Parts, text: str | None, datasets: Sequence[Dataset]) -> AsOf:
    """The versions of the datasets' tables that `as_of` names. Raises as `resolve`."""
    return await parts.blocking.run(resolve, parts.reader, text, [dataset.table for dataset in datasets])


async def scan_of(parts: Parts, as_of: AsOf, dataset: Dataset, wanted: Filter) -> Scan | None:
    """The files of the dataset with the wanted rows; None when the table had no version yet."""
    plan = await parts.blocking.run(
        as_of.plan,
        parts.reader,
        dataset.table,
        start_ns=wanted.start_ns,
        end_ns=wanted.end_ns,
        symbols=wanted.symbols,
    )
    return None if plan is None else Scan(dataset=dataset, plan=plan)


def whole_list(entries: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> Response:
    """A list without further pages."""
    return JSONResponse(
        {"data": list(entries), "next_page_token": None, "meta": {**meta, "row_count": len(entries)}}
    )


def meta_of(request: Request, as_of: AsOf | None, asked: str | None) -> dict[str, Any]:
    """What `meta` says of every answer."""
    provisional = as_of is not None and as_of.provisional
    return {
        "request_id": request.scope.get("k2_request_id"),
        "version": None if as_of is None else as_of.token,
        "as_of": asked,
        "warnings": ["PROVISIONAL: a later commit may still belong to this time"] if provisional else [],
    }
