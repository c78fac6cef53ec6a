"""Every live data file of a table is read and verified once in a period, a bounded part in each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2common.errors import DataDamaged, DataFault, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.files.digests import digest_in
from k2common.iceberg.files.manifests import LiveFile
from k2common.iceberg.files.verification import Report, check_whole, log_fault, never, open_parquet
from k2common.iceberg.maintenance.rewrite import live_files


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubResult:
    """What a pass read, and what is known of the table's live files after it.

    `damaged` and `missing` count all files that are so, `without_digest` those of other engines, `due` those
    that this pass has left for the next.
    """

    files: int = 0
    bytes: int = 0
    damaged: int = 0
    missing: int = 0
    without_digest: int = 0
    due: int = 0


class Scrubber:
    """Verifies the files of one table; a file at fault is looked at again in every pass."""

    def __init__(
        self, catalog: Catalog, name: str, *, period_seconds: float, report: Report = log_fault
    ) -> None:
        self._catalog = catalog
        self._name = name
        self._period = period_seconds
        self._report = report
        self._verified: dict[str, float] = {}
        self._faults: dict[str, DataFault] = {}

    @property
    def faults(self) -> Mapping[str, DataFault]:
        """The fault of each damaged or missing file, by path, as the last pass knew it."""
        return self._faults

    def scrub(
        self,
        *,
        now: float,
        max_bytes: int,
        dry_run: bool = False,
        ended: Callable[[], bool] = never,
    ) -> ScrubResult:
        """Verify due files until `max_bytes` are read, at least one; `now` is in monotonic seconds.

        Raises TransientError when the catalogue or the warehouse does not answer.
        """
        table = load_table(self._catalog, self._name)
        files = live_files(table)
        due = self._due(files, now)
        read = 0
        done = 0
        for file in () if dry_run else due:
            if ended() or (done and read + file.file_size_in_bytes > max_bytes):
                break
            self._verify(file, table, now)
            read, done = read + file.file_size_in_bytes, done + 1
        damaged = sum(isinstance(fault, DataDamaged) for fault in self._faults.values())
        return ScrubResult(
            files=done,
            bytes=read,
            damaged=damaged,
            missing=len(self._faults) - damaged,
            without_digest=sum(digest_in(file.file_path) is None for file in files),
            due=len(due) - done,
        )

    def _due(self, files: Sequence[LiveFile], now: float) -> list[LiveFile]:
        """Files at fault first, then those that were never verified, then the oldest verdicts."""
        live = {file.file_path for file in files}
        self._verified = {path: at for path, at in self._verified.items() if path in live}
        self._faults = {path: fault for path, fault in self._faults.items() if path in live}
        before = now - self._period
        due = [file for file in files if self._verified.get(file.file_path, before) <= before]
        return sorted(
            due,
            key=lambda file: (
                file.file_path not in self._faults,
                self._verified.get(file.file_path, before - 1),
            ),
        )

    def _verify(self, file: LiveFile, table: Table, now: float) -> None:
        path = file.file_path
        try:
            self._read(file, table)
        except DataFault as fault:
            if path not in self._faults:
                self._report(fault)
            self._faults[path] = fault
            self._verified.pop(path, None)
        except AWAY as error:
            raise TransientError(f"{self._name}: the warehouse cannot be read") from error
        else:
            self._faults.pop(path, None)
            self._verified[path] = now

    def _read(self, file: LiveFile, table: Table) -> None:
        path = file.file_path
        if digest_in(path) is not None:
            check_whole(table.io, path, table=self._name)
            return
        with open_parquet(table.io, path, table=self._name) as parquet:
            for group in range(parquet.num_row_groups):
                parquet.read_row_group(group)
