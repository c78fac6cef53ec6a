"""In-memory databases with limits, one for each query that runs, and kept warm for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from threading import Lock
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import duckdb
import pyarrow as pa

from k2common.columnar.arrow import arrow_schema_of
from k2common.engine.budget import MemoryBudget
from k2common.engine.store import attach_store
from k2common.errors import K2Error, TransientError
from k2common.iceberg.files.verification import GivenUp
from k2common.iceberg.reading.plan import PlannedFiles
from k2common.observability.logging import get_logger
from k2common.schemas.datasets import TABLES, Dataset, OwnTable
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings

log = get_logger(__name__)
USE = "SELECT sum(memory_usage_bytes), sum(temporary_storage_bytes) FROM duckdb_memory()"


LEAST_MEGABYTES = 64
"""Of one query or stream, whatever the others have; sorts of any size spill at it and end."""


class QueryTooLarge(K2Error):
    """The query needs more memory than it may have."""


class QueryInterrupted(K2Error):
    """The query was given up, by its time limit or because nobody waits for it."""


class ValueOutOfRange(K2Error):
    """A result has more digits than can be given exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse:
    """How many databases there are, and bytes: what they hold in memory, on disk, and may hold."""

    databases: int
    used: int
    spilled: int
    allowed: int


class Engine:
    """Makes queries; safe for threads, each query by one at a time.

    A query has a database of its own while it runs, so that its memory is its own. Databases are kept warm,
    with the footers of the files that they read, and the one used last is used first.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        warehouse: IcebergSettings | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """`warehouse` says how to read one that is no folder; `budget` is shared with the sandbox.

        Raises SetupError when the engine cannot read it as installed.
        """
        self._settings = settings
        self._warehouse = warehouse
        self._lock = Lock()
        self._budget = budget or MemoryBudget(settings.total_memory_megabytes)
        holders = settings.concurrent_queries + settings.open_streams
        self._least = self._budget.least_share(
            holders, wanted=min(LEAST_MEGABYTES, settings.memory_megabytes)
        )
        self._all: list[_Database] = []
        self._idle: list[_Database] = []
        self._budget.on_shortage(self._shrink_idle)
        self._give_back(self._take())

    def query(self, sql: str, parameters: Mapping[str, Any]) -> Query:
        """A query that has not begun; values come as parameters, never in the text."""
        database = self._take()
        done = partial(self._give_back, database)
        return Query(database.connection.cursor(), sql, parameters, done=done)

    def use(self) -> EngineUse:
        """What the databases hold now, as they say themselves."""
        with self._lock:
            databases = list(self._all)
        used = spilled = 0
        for database in databases:
            with database.connection.cursor() as cursor:
                of_one = cursor.execute(USE).fetchone()
            used, spilled = used + int(of_one[0]), spilled + int(of_one[1])
        allowed = min(self._budget.total, len(databases) * self._settings.memory_megabytes) * 10**6
        return EngineUse(databases=len(databases), used=used, spilled=spilled, allowed=allowed)

    def close(self) -> None:
        """Give up the databases."""
        for database in self._all:
            database.connection.close()

    def _take(self) -> _Database:
        """An idle database or a new one, with as much memory as there is for it."""
        with self._lock:
            database = self._idle.pop() if self._idle else None
        if database is None:
            database = _Database(open_database(self._settings, self._warehouse))
            database.limit(self._least)
            with self._lock:
                self._all.append(database)
        database.limit(self._budget.take(database.megabytes, self._settings.memory_megabytes))
        return database

    def _give_back(self, database: _Database) -> None:
        # It keeps its memory: another limit for each query takes a third of the time of a small one.
        with self._lock:
            self._idle.append(database)

    def _shrink_idle(self) -> None:
        """Leave the idle databases their least share; the engine returns to the system what it had kept."""
        with self._lock:
            for database in self._idle:
                kept = database.megabytes
                database.limit(self._least)
                self._budget.give_back(kept, self._least)


@dataclass(slots=True)
class _Database:
    """A database in memory and the megabytes that it has of the budget."""

    connection: Any
    megabytes: int = 0

    def limit(self, megabytes: int) -> None:
        """Let it use so much memory."""
        if megabytes != self.megabytes:
            self.connection.execute(f"SET GLOBAL memory_limit = '{megabytes}MB'")
            self.megabytes = megabytes


def open_database(settings: EngineSettings, warehouse: IcebergSettings | None) -> Any:
    """An empty database in memory, with the columns of every dataset."""
    # Made when something spills, and removed with the database.
    folder = Path(gettempdir()) / f"k2-engine-{uuid4()}"
    database = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{settings.memory_megabytes}MB",
            "max_temp_directory_size": f"{settings.spill_megabytes}MB",
            "temp_directory": str(folder),
            "threads": settings.threads,
            # Nothing is fetched at run time, and no file but what a plan names is read.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    if warehouse is not None:
        attach_store(database, warehouse)
    # A file never changes once it is written.
    database.execute("SET GLOBAL parquet_metadata_cache = true")
    create_empty_tables(database, TABLES.values())
    return database


def create_empty_tables(database: Any, datasets: Iterable[Dataset | OwnTable]) -> None:
    """Tables that give a union its columns and types where a version has no file, or older ones."""
    for dataset in datasets:
        empty = arrow_schema_of(dataset.schema).empty_table()
        with database.cursor() as cursor:
            cursor.register("empty_rows", empty)
            cursor.execute(f"CREATE TABLE {empty_table(dataset.name)} AS SELECT * FROM empty_rows")


def empty_table(dataset: str) -> str:
    """The name of the table without rows that has the dataset's columns."""
    return f"empty_{dataset}"


class Query(AbstractContextManager["Query"]):
    """One running query; it raises QueryTooLarge, QueryInterrupted, ValueOutOfRange or TransientError.

    The files of its plans are verified before it reads them: DataDamaged and DataMissing are TransientErrors.
    """

    def __init__(
        self, cursor: Any, sql: str, parameters: Mapping[str, Any], *, done: Callable[[], None]
    ) -> None:
        self._cursor = cursor
        self._sql = sql
        # The engine takes a plain list; what verifies the files stays here.
        self._files = [value for value in parameters.values() if isinstance(value, PlannedFiles)]
        self._parameters = {
            name: list(value) if isinstance(value, PlannedFiles) else value
            for name, value in parameters.items()
        }
        self._done = done
        self._interrupted = False

    def table(self) -> pa.Table:
        """The whole result."""
        with self._translated():
            self._verify()
            result: pa.Table = self._cursor.execute(self._sql, self._parameters).to_arrow_table()
        return result

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The result in batches of about `rows`, as it comes."""
        with self._translated():
            self._verify()
            reader = self._cursor.execute(self._sql, self._parameters).to_arrow_reader(rows)
            yield from reader

    def close(self) -> None:
        """End the query and give its memory back; that may take a few tenths of a second."""
        self._cursor.close()
        self._done()

    def interrupt(self) -> None:
        """Give the query up; may be called from any thread."""
        self._interrupted = True
        self._cursor.interrupt()

    def _verify(self) -> None:
        for files in self._files:
            files.verify(lambda: self._interrupted)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.InterruptException, GivenUp) as error:
            raise QueryInterrupted("the query was given up") from error
        except duckdb.OutOfMemoryException as error:
            raise QueryTooLarge(str(error)) from error
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            self._explain()
            raise ValueOutOfRange(str(error)) from error
        except (duckdb.IOException, duckdb.HTTPException) as error:
            self._explain()
            log.warning("warehouse unreadable", error=str(error))
            raise TransientError("the warehouse cannot be read") from error
        except duckdb.Error:
            self._explain()
            raise

    def _explain(self) -> None:
        """Raise DataDamaged or DataMissing when the engine failed for the sake of a file."""
        for files in self._files:
            files.explain()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
