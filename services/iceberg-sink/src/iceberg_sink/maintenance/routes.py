"""The endpoints about tables and the work on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from k2common.domain.time import format_datetime
from k2common.http.envelope import listing
from k2common.http.openapi import Operation, Parameter, many, reference
from k2common.http.parameters import invalid, require_known
from k2common.http.problems import FieldError, Problem
from k2common.iceberg.maintenance.rewrite import ForeignDeletes
from k2common.schemas.datasets import TABLES
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from iceberg_sink.maintenance.maintenance import Done, Maintenance, TableMaintenance
from iceberg_sink.tasks import Task

BOOLEANS = ("true", "false")
REWRITING = frozenset({Task.COMPACT, Task.PURGE})
"""Tasks that rewrite data files, and cannot do so where another engine has written deletes."""


class MaintenanceRoutes:
    """Handlers over the maintenance of this replica."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance

    def routes(self) -> Sequence[Route]:
        """Path by path."""
        return [
            Route("/v1/tables", self.list, methods=["GET"]),
            *(Route(_path(task), self._command(task), methods=["POST"]) for task in Task),
        ]

    async def list(self, request: Request) -> Response:
        """What each table is made of, and when this replica last worked on it."""
        require_known(request, ("table",))
        return JSONResponse(listing([await _entry(table) for table in self._tables(request)], request))

    def _command(self, task: Task) -> Callable[[Request], Awaitable[Response]]:
        return partial(self._run, task)

    async def _run(self, task: Task, request: Request) -> Response:
        """One pass over the table, or over all of them."""
        require_known(request, ("table", "dry_run"))
        dry_run = choice(request, "dry_run", BOOLEANS, default="false") == "true"
        tables, found = self._tables(request), []
        try:
            if task in REWRITING and len(tables) > 1:
                # The refusal for one table must come before the work on another.
                for table in tables:
                    await table.require_own_deletes()
            for table in tables:
                figures = await table.run(task, dry_run=dry_run)
                found.append(
                    {"table": table.table, "task": str(task), "dry_run": dry_run, "figures": figures}
                )
        except ForeignDeletes as error:
            raise Problem(HTTPStatus.CONFLICT, "FOREIGN_DELETES", str(error)) from error
        return JSONResponse(listing(found, request))

    def _tables(self, request: Request) -> Sequence[TableMaintenance]:
        tables = self._maintenance.tables
        if "table" not in request.query_params:
            return list(tables.values())
        return [tables[choice(request, "table", sorted(tables), default="")]]


def _path(task: Task) -> str:
    return f"/v1/maintenance/{task}"


def choice(request: Request, name: str, values: Sequence[str], *, default: str) -> str:
    """Return the parameter's value; raises Problem 400 for one that is not among `values`."""
    text = request.query_params.get(name, default)
    if text not in values:
        message = f"{name} is one of {', '.join(values)}"
        raise invalid([FieldError(parameter=name, code="INVALID", message=message, value=text[:100])])
    return text


async def _entry(table: TableMaintenance) -> Mapping[str, Any]:
    found = await table.inventory()
    head = found.head
    return {
        "table": table.table,
        "version": None if head is None else head.number,
        "committed_at": None if head is None else format_datetime(head.committed_at),
        "hidden_uploads": 0 if head is None else len(head.hidden),
        "rows": found.rows,
        "bytes": found.bytes,
        "data_files": found.data_files,
        "small_files": found.small_files,
        "manifests": found.manifests,
        "metadata_files": found.metadata_files,
        "snapshots": found.snapshots,
        "maintained": {str(task): _done(done) for task, done in table.last.items()},
    }


def _done(done: Done) -> Mapping[str, Any]:
    return {"at": format_datetime(done.at), "seconds": round(done.seconds, 3), "figures": done.figures}


_COUNT = {"type": "integer", "minimum": 0}
_FIGURES = {"type": "object", "additionalProperties": _COUNT}
_COUNTS = ("rows", "bytes", "data_files", "small_files", "manifests", "metadata_files", "snapshots")
SCHEMAS: Mapping[str, Any] = {
    "Table": {
        "type": "object",
        "required": ["table", "version", "committed_at", "hidden_uploads", *_COUNTS, "maintained"],
        "properties": {
            "table": {"type": "string"},
            "version": {"type": ["integer", "null"]},
            "committed_at": {"type": ["string", "null"]},
            "hidden_uploads": _COUNT,
            **dict.fromkeys(_COUNTS, _COUNT),
            "maintained": {
                "type": "object",
                "description": "The last pass of each task in this replica.",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "at": {"type": "string"},
                        "seconds": {"type": "number"},
                        "figures": _FIGURES,
                    },
                },
            },
        },
        "additionalProperties": False,
    },
    "Pass": {
        "type": "object",
        "required": ["table", "task", "dry_run", "figures"],
        "properties": {
            "table": {"type": "string"},
            "task": {"type": "string", "enum": [str(task) for task in Task]},
            "dry_run": {"type": "boolean"},
            "figures": _FIGURES,
        },
        "additionalProperties": False,
    },
}
_TABLE = Parameter(
    name="table",
    description="This table alone; all without it.",
    schema={"type": "string", "enum": sorted(TABLES)},
    example="market.trades",
)
_DRY_RUN = Parameter(
    name="dry_run",
    description="Whether only to say what would be done.",
    schema={"type": "string", "enum": list(BOOLEANS)},
    example="true",
)
_SENTENCES = {
    Task.COMPACT: "Merge small files; every version shows the same rows.",
    Task.EXPIRE: "Let old snapshots expire whose versions are recorded; versions stay readable.",
    Task.PURGE: "Delete rows of uploads taken back long ago; the versions that showed them are gone.",
    Task.SCRUB: "Read and verify data files that are due; says how many are damaged, missing or due.",
    Task.COLLECT: "Delete files that nothing has named for the guard.",
}
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/tables",
        summary="What each table is made of.",
        parameters=(_TABLE,),
        answers={200: many(reference("Table"))},
    ),
    *(
        Operation(
            method="post",
            path=_path(task),
            summary=_SENTENCES[task],
            parameters=(_TABLE, _DRY_RUN),
            answers={200: many(reference("Pass"))},
            problems=(409,) if task in REWRITING else (),
        )
        for task in Task
    ),
)
