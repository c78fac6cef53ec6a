"""Damage to the files of a table on disk, and its undoing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.maintenance.rewrite import live_files


def data_files(catalog: Catalog, table: str) -> Sequence[Path]:
    """The table's live data files, in a fixed order."""
    files = live_files(load_table(catalog, table))
    return sorted(
        (Path(file.file_path.removeprefix("file://")) for file in files),
        key=lambda path: path.stat().st_size,
    )


@contextmanager
def flipped(path: Path, random: Random) -> Iterator[int]:
    """One bit of the file is another one; gives the byte that holds it."""
    whole = path.read_bytes()
    at = random.randrange(8 * len(whole))
    damaged = bytearray(whole)
    damaged[at // 8] ^= 1 << at % 8
    path.write_bytes(damaged)
    try:
        yield at // 8
    finally:
        path.write_bytes(whole)


@contextmanager
def missing(path: Path) -> Iterator[None]:
    """The file is not there."""
    whole = path.read_bytes()
    path.unlink()
    try:
        yield
    finally:
        path.write_bytes(whole)
