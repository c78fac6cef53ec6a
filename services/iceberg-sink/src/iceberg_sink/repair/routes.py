"""`POST /v1/maintenance/repair`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from k2common.http.envelope import listing
from k2common.http.openapi import Operation, Parameter, many, reference
from k2common.http.parameters import require_known
from k2common.http.problems import Problem
from k2common.iceberg.maintenance.rewrite import ForeignDeletes
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from iceberg_sink.maintenance.routes import BOOLEANS, choice
from iceberg_sink.repair.repair import REPAIRABLE, FileReport, RepairReport, TableRepair

PATH = "/v1/maintenance/repair"
STATES = ("repaired", "repairable", "refused")


class RepairRoutes:
    """The handler over the repairs of all tables whose rows come from uploads."""

    def __init__(self, repairs: Mapping[str, TableRepair]) -> None:
        self._repairs = repairs

    def routes(self) -> Sequence[Route]:
        """Return the one route."""
        return [Route(PATH, self.repair, methods=["POST"])]

    async def repair(self, request: Request) -> Response:
        """Repair one table, or all of them."""
        require_known(request, ("table", "dry_run"))
        dry_run = choice(request, "dry_run", BOOLEANS, default="false") == "true"
        repairs = list(self._repairs.values())
        if "table" in request.query_params:
            repairs = [self._repairs[choice(request, "table", sorted(self._repairs), default="")]]
        try:
            reports = [await repair.run_repair(dry_run=dry_run) for repair in repairs]
        except ForeignDeletes as error:
            raise Problem(HTTPStatus.CONFLICT, "FOREIGN_DELETES", str(error)) from error
        return JSONResponse(listing([_entry(report) for report in reports], request))


def _entry(report: RepairReport) -> Mapping[str, Any]:
    return {
        "table": report.table,
        "dry_run": report.dry_run,
        "verified": report.verified,
        **{state: sum(file.state == state for file in report.files) for state in STATES},
        "files": [_file(file) for file in report.files],
    }


def _file(file: FileReport) -> Mapping[str, Any]:
    return {
        "file": file.name,
        "fault": file.fault,
        "rows": file.rows,
        "state": file.state,
        "uploads": [{"upload_id": upload, "rows": rows} for upload, rows in file.uploads.items()],
        "proofs": list(file.proofs),
        "reason": file.reason,
    }


_COUNT = {"type": "integer", "minimum": 0}
_FILE = {
    "type": "object",
    "required": ["file", "fault", "rows", "state", "uploads", "proofs", "reason"],
    "properties": {
        "file": {"type": "string", "description": "Name of the data file without its folders."},
        "fault": {"type": "string", "enum": ["damaged", "missing"]},
        "rows": {**_COUNT, "description": "Rows of the file, as its manifest says."},
        "state": {
            "type": "string",
            "enum": list(STATES),
            "description": "`repairable` is said by a dry run alone.",
        },
        "uploads": {
            "type": "array",
            "description": "The uploads from which the rows were rebuilt.",
            "items": {
                "type": "object",
                "required": ["upload_id", "rows"],
                "properties": {"upload_id": {"type": "string"}, "rows": _COUNT},
                "additionalProperties": False,
            },
        },
        "proofs": {
            "type": "array",
            "description": "What the rebuilt rows agree with: `statistics` of the manifest, "
            "`columns` of the damaged file that can still be read, its `sha256`.",
            "items": {"type": "string", "enum": ["statistics", "columns", "sha256"]},
        },
        "reason": {"type": ["string", "null"], "description": "Why the file was not repaired."},
    },
    "additionalProperties": False,
}
SCHEMAS: Mapping[str, Any] = {
    "Repair": {
        "type": "object",
        "required": ["table", "dry_run", "verified", *STATES, "files"],
        "properties": {
            "table": {"type": "string"},
            "dry_run": {"type": "boolean"},
            "verified": {**_COUNT, "description": "Live data files that were read and verified."},
            **{state: {**_COUNT, "description": "Lost files in this state."} for state in STATES},
            "files": {"type": "array", "items": _FILE},
        },
        "additionalProperties": False,
    }
}
OPERATIONS = (
    Operation(
        method="post",
        path=PATH,
        summary="Rebuild damaged and missing data files from the archive; every version stays as it was.",
        parameters=(
            Parameter(
                name="table",
                description="This table alone; without it all whose rows come from uploads.",
                schema={"type": "string", "enum": sorted(REPAIRABLE)},
                example="market.trades",
            ),
            Parameter(
                name="dry_run",
                description="Whether only to say what would be done.",
                schema={"type": "string", "enum": list(BOOLEANS)},
                example="true",
            ),
        ),
        answers={200: many(reference("Repair"))},
        problems=(409,),
    ),
)
