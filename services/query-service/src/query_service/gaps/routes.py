"""The endpoints that say what changed, what is missing, and how good a dataset is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from k2common.domain.time import format_time
from k2common.engine.scan import Parameters, Scan
from k2common.iceberg.reading.as_of import AsOf, resolve
from k2common.iceberg.reading.tags import NAME
from k2common.schemas.datasets import BARS, DEAD_LETTERS, GAPS, QUOTES, REJECTS, TRADES, Dataset
from k2common.versions.version import Version, format_token

from query_service.answers.answer_context import AnswerDependencies, caching, meta_of, unchanged
from query_service.answers.documentation import NOT_MODIFIED, answers, page_of
from query_service.answers.page_tokens import ListPage
from query_service.answers.parameters import fault
from query_service.gaps import parameters as given
from query_service.gaps.condition import conditions
from query_service.gaps.gap_report import find_gaps
from query_service.gaps.gaps import diff_sql

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (TRADES, QUOTES, BARS)}
MAX_GROUPS = 1_000_000


def gap_routes(parts: AnswerDependencies) -> APIRouter:
    """Differences, gaps and conditions."""
    router = APIRouter(prefix="/v1", tags=["quality"])

    @router.get(
        "/diff",
        summary="Rows added and taken back between two versions",
        responses=answers(page_of("Difference")),
    )
    async def diff(request: Request, query: given.Diff) -> Response:
        dataset = DATASETS[query.dataset]
        token = _turned(parts, query)
        before = await _version(parts, dataset, token.versions.get("from", query.before), "from")
        after = await _version(parts, dataset, token.versions.get("to", query.after), "to")
        entries = await _differences(parts, dataset, before, after, query)
        as_of = AsOf(versions={} if after is None else {dataset.table: after})
        names = {"from": _token(before), "to": _token(after)}
        meta = {**meta_of(request, as_of, query.after), **names}
        return _page(parts, request, query, entries, meta, pinned=names)

    @router.get(
        "/gaps",
        summary="What is missing in a range, with its cause",
        responses={**answers(page_of("Gap")), **NOT_MODIFIED},
    )
    async def gaps(request: Request, query: given.Gaps) -> Response:
        dataset = DATASETS[query.dataset]
        token = _turned(parts, query)
        as_of = await _as_of(parts, token.versions.get("version", query.as_of), dataset)
        held = unchanged(request, as_of, query.as_of)
        if held is not None:
            return held
        found = await find_gaps(parts, as_of, dataset, query)
        meta = meta_of(request, as_of, query.as_of)
        meta["unresolved"] = list(found.unresolved)
        meta["timezone"] = query.timezone
        meta["warnings"] += [
            *_behind(as_of, dataset),
            *(f"NO_CALENDAR: {venue} is taken to be open always" for venue in found.without_calendar),
        ]
        entries = [interval.entry(dataset.name) for interval in found.intervals]
        pinned = {"version": as_of.token}
        return _page(
            parts, request, query, entries, meta, pinned=pinned, headers=_caching(request, as_of, query)
        )

    @router.get(
        "/datasets/{dataset}/condition",
        summary="The quality of a dataset, day by day",
        responses={**answers(page_of("Condition")), **NOT_MODIFIED},
    )
    async def condition(
        request: Request, dataset: Literal["trades", "quotes", "bars"], query: given.Condition
    ) -> Response:
        wanted = DATASETS[dataset]
        token = _turned(parts, query)
        as_of = await _as_of(parts, token.versions.get("version", query.as_of), wanted)
        held = unchanged(request, as_of, query.as_of)
        if held is not None:
            return held
        entries = await conditions(parts, as_of, wanted, query)
        meta = meta_of(request, as_of, query.as_of)
        meta["warnings"] += _behind(as_of, wanted)
        pinned = {"version": as_of.token}
        return _page(
            parts, request, query, entries, meta, pinned=pinned, headers=_caching(request, as_of, query)
        )

    return router


async def _version(
    parts: AnswerDependencies, dataset: Dataset, text: str | None, parameter: str
) -> Version | None:
    """The version of the dataset's table that the text names. Raises Problem 400 where it names none."""
    as_of = await parts.blocking.run(resolve, parts.reader, text, [dataset.table])
    version = as_of.versions.get(dataset.table)
    if version is None and text is not None:
        raise fault(parameter, f"{dataset.name} had no version then", text)
    return version


async def _differences(
    parts: AnswerDependencies,
    dataset: Dataset,
    before: Version | None,
    after: Version | None,
    query: given.DiffParameters,
) -> Sequence[Mapping[str, Any]]:
    if before is None or after is None:
        return []
    wanted = query.to_filter()
    sides = {"added": (after, before), "taken_back": (before, after)}
    scans: dict[str, Scan] = {}
    for change, (version, without) in sides.items():
        plan = await parts.blocking.run(parts.reader.plan, version, without=without, symbols=wanted.symbols)
        if plan.paths:
            scans[change] = Scan(dataset=dataset, plan=plan)
    if not scans:
        return []
    parameters = Parameters()
    sql = f"{diff_sql(scans, wanted, parameters)} LIMIT {parameters.bind(MAX_GROUPS)}"
    rows = (await parts.queries.table(sql, parameters.values)).to_pylist()
    return [_difference(row, before, after) for row in rows]


def _difference(row: Mapping[str, Any], before: Version, after: Version) -> Mapping[str, Any]:
    hidden = after.hidden.get(row["upload_id"]) if row["change"] == "taken_back" else None
    shown = before.hidden.get(row["upload_id"]) if row["change"] == "added" else None
    reason = hidden or shown
    return {
        "change": row["change"],
        "upload_id": row["upload_id"],
        "venue": row["venue"],
        "symbol": row["symbol"],
        "source": row["source"],
        "trading_date": row["trading_date"].isoformat(),
        "rows": row["rows"],
        "first": format_time(row["first_ns"]),
        "last": format_time(row["last_ns"]),
        "reason": None if reason is None else str(reason.reason),
    }


async def _as_of(parts: AnswerDependencies, text: str | None, dataset: Dataset) -> AsOf:
    """The versions that `as_of` names, and the newest of the tables beside the dataset that it does not."""
    beside = (GAPS.table, REJECTS.table, DEAD_LETTERS.table)
    as_of = await parts.blocking.run(resolve, parts.reader, text, [dataset.table, *beside])
    if text is None or ("@" not in text and NAME.fullmatch(text) is None):
        return as_of
    versions = dict(as_of.versions)
    for table in beside:
        if table not in versions:
            newest = await parts.blocking.run(parts.reader.latest, table)
            if newest is not None:
                versions[table] = newest
    return replace(as_of, versions=versions)


def _behind(as_of: AsOf, dataset: Dataset) -> Sequence[str]:
    """Whether the sequence numbers of the version have not been followed yet."""
    version, gaps = as_of.versions.get(dataset.table), as_of.versions.get(GAPS.table)
    if version is None or dataset not in (TRADES, QUOTES):
        return []
    followed = 0 if gaps is None else gaps.resume.get(dataset.table, {}).get(0, 0)
    if followed >= version.number:
        return []
    return [f"GAPS_BEHIND: sequence numbers are followed up to {dataset.name}@{followed}"]


def _token(version: Version | None) -> str | None:
    return None if version is None else format_token({version.table: version.number})


def _caching(request: Request, as_of: AsOf, query: given.AsOfParameters) -> Mapping[str, str]:
    return caching(request, as_of, query.as_of)


def _turned(parts: AnswerDependencies, query: given.PagedParameters) -> ListPage:
    """What the page token says; the beginning without one. Raises Problem 400."""
    if query.page_token is None:
        return ListPage(versions={}, filter="", at=0)
    turned = parts.pages.lists.read(query.page_token)
    if turned.filter != query.digest():
        raise fault("page_token", "page_token is of another request", None)
    return turned


def _page(
    parts: AnswerDependencies,
    request: Request,
    query: given.PagedParameters,
    entries: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    pinned: Mapping[str, str | None],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The page that the token asks for; the versions are `pinned` in the next one."""
    first = _turned(parts, query).at
    shown = entries[first : first + query.limit]
    token, links = None, {}
    if first + query.limit < len(entries):
        following = ListPage(versions=pinned, filter=query.digest(), at=first + query.limit)
        token = parts.pages.lists.make(following)
        links["Link"] = f'<{request.url.include_query_params(page_token=token)}>; rel="next"'
    body = {"data": list(shown), "next_page_token": token, "meta": {**meta, "row_count": len(shown)}}
    return JSONResponse(body, headers={**(headers or {}), **links})
