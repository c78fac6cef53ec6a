"""One statement of a stranger in a process of its own, which can read nothing but the views it was given.

The process is told the statement, answers which views it reads, is told those, and gives the rows. It has
little memory, writes no file, and is killed rather than asked when its time is over. Messages in are lines of
JSON; messages out are frames: a kind (one byte), a length (four bytes, big-endian), and so many bytes.

    T   JSON {"tables": [...]}: what the statement reads
    B   bytes of the answer
    D   JSON {"rows": n, "more": bool}: the answer is whole
    E   JSON {"kind", "message", "position"}: there is no answer, or no more of it
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

from k2common.engine.connection import create_empty_tables
from k2common.engine.formats import FORMATS, one_name_each
from k2common.engine.statements import StatementRefused, judged, position_of, refuse_nul
from k2common.engine.store import attach_store
from k2common.schemas.datasets import TABLES
from k2common.settings.iceberg import IcebergSettings

Send = Callable[[bytes, bytes], None]
BATCH_ROWS = 16_384
PAGE = resource.getpagesize()
HEADROOM = 512 * 1024 * 1024
"""Address space beside the engine's memory: threads' stacks, the allocator's own, text that is made."""

PARSE = "SELECT json_serialize_sql($sql, skip_null := true, skip_empty := true)"


class Cell:
    """A database that runs one statement; `send` takes the frames."""

    def __init__(self, *, memory_megabytes: int, threads: int, send: Send) -> None:
        self._send = send
        self._database = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_megabytes}MB",
                "threads": threads,
                "temp_directory": "",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            },
        )
        self._database.execute("SET GLOBAL TimeZone = 'UTC'")

    def reach(self, warehouse: Mapping[str, Any]) -> None:
        """Let it read an object store: those of its files that `run` is given."""
        attach_store(self._database, IcebergSettings.model_validate(warehouse))

    def judge(self, question: Mapping[str, Any]) -> None:
        """Send the tables that the statement reads.

        Raises StatementRefused.
        """
        sql = question["sql"]
        refuse_nul(sql)
        row = self._database.execute(PARSE, {"sql": sql}).fetchone()
        tree = json.loads(row[0]) if row else {}
        found = judged(sql, tree, frozenset(question["views"]))
        self._send(b"T", json.dumps({"tables": sorted(found)}).encode())

    def run(self, question: Mapping[str, Any], task: Mapping[str, Any]) -> None:
        """Send the rows.

        Raises what the engine raises, and StatementRefused.
        """
        self._prepare(task)
        self._lock(task["paths"])
        result = self._database.execute(question["sql"], task["parameters"])
        batches: Any = result.to_arrow_reader(BATCH_ROWS)
        one_name_each(batches.schema.names)
        if task["sorted"]:
            table = batches.read_all()
            ordered = self._database.cursor().from_arrow(table).order("ALL")
            batches = ordered.to_arrow_reader(BATCH_ROWS)
        writer = FORMATS[task["format"]](batches.schema, self._database.cursor())
        rows, limit, more = 0, task["limit"], False
        self._bytes(writer.start())
        for batch in batches:
            more = limit is not None and rows + batch.num_rows > limit
            wanted = batch.slice(0, limit - rows) if more else batch
            rows += wanted.num_rows
            self._bytes(writer.rows(wanted))
            if more:
                break
        self._bytes(writer.end())
        self._send(b"D", json.dumps({"rows": rows, "more": more}).encode())

    def _prepare(self, task: Mapping[str, Any]) -> None:
        wanted = task["datasets"]
        create_empty_tables(self._database, [table for table in TABLES.values() if table.name in wanted])
        for name, value in task["variables"].items():
            self._database.execute(f"SET VARIABLE {name} = $value", {"value": value})
        for statement in task["statements"]:
            self._database.execute(statement)

    def _lock(self, paths: list[str]) -> None:
        self._database.execute("SET allowed_paths = $paths", {"paths": paths})
        for setting in (
            "errors_as_json = true",
            "allow_community_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._database.execute(f"SET {setting}")

    def _bytes(self, data: bytes) -> None:
        if data:
            self._send(b"B", data)


def serve(read: Callable[[], bytes], send: Send, *, confine: Callable[[int], None]) -> None:
    """Answer one question; everything that goes wrong is a frame."""
    first = read()
    if not first:
        return
    question = json.loads(first)
    try:
        cell = Cell(memory_megabytes=question["memory_megabytes"], threads=question["threads"], send=send)
        confine(question["memory_megabytes"])
        cell.judge(question)
        task = read()
        if task and question.get("warehouse"):
            cell.reach(question["warehouse"])
        if task:
            cell.run(question, json.loads(task))
    except (StatementRefused, duckdb.Error, pa.ArrowException, MemoryError, RecursionError) as error:
        send(b"E", json.dumps(_told(error, question["sql"])).encode())


def confine(memory_megabytes: int) -> None:
    """From here on the process has so much address space, writes no file and opens few."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        space = pages * PAGE + memory_megabytes * 1024 * 1024 + HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _told(error: BaseException, sql: str) -> Mapping[str, Any]:
    if isinstance(error, StatementRefused):
        kind = "invalid" if error.malformed else "refused"
        return {"kind": kind, "message": str(error), "position": error.position}
    if isinstance(error, (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException)):
        return {"kind": "too_large", "message": "the statement needs more memory than it may have"}
    if isinstance(error, RecursionError):
        return {"kind": "refused", "message": "the statement is nested too deep", "position": None}
    if isinstance(error, pa.ArrowException):
        return {"kind": "invalid", "message": f"the format cannot hold the rows: {error}", "position": None}
    message, position = _of_engine(error, sql)
    if isinstance(error, duckdb.PermissionException):
        return {"kind": "refused", "message": "the statement reads something else than the tables"}
    if isinstance(error, (duckdb.IOException, duckdb.HTTPException)):
        return {"kind": "unavailable", "message": "the warehouse cannot be read"}
    out_of_range = isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException))
    return {"kind": "value" if out_of_range else "invalid", "message": message, "position": position}


def _of_engine(error: BaseException, sql: str) -> tuple[str, int | None]:
    text = str(error)
    with suppress(ValueError, KeyError):
        known = json.loads(text[text.index("{") :])
        return str(known["exception_message"]), position_of(sql, known.get("position"))
    return text.partition("\n")[0], None


def main() -> None:
    """`python -m k2common.engine.cell`: questions come on standard input, frames go to standard output."""
    out: BinaryIO = sys.stdout.buffer

    def send(kind: bytes, data: bytes) -> None:
        out.write(kind + len(data).to_bytes(4, "big") + data)
        out.flush()

    serve(sys.stdin.buffer.readline, send, confine=confine)


if __name__ == "__main__":
    main()
