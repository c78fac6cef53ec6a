"""Files of tables are verified by the digest in their name before what they hold is used.

A file without a digest is another engine's. It is accepted; its Parquet pages are verified by their checksums
where this process reads them itself.
"""

from __future__ import annotations

import hashlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from k2common.errors import DataDamaged, DataFault, DataMissing
from k2common.iceberg.files.digests import TAIL_BYTES, FileDigest, digest_in, footer_length
from k2common.iceberg.files.lru import Recent
from k2common.observability.logging import get_logger

PIECE_BYTES = 1024 * 1024
THREADS = 4
LOCKS = 64
KNOWN_FILES = 200_000
log = get_logger(__name__)
Report = Callable[[DataFault], None]
PARSING = (
    pa.ArrowException,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What parsers raise for bytes that are no file of theirs."""
UNREADABLE = ("checksum", "corrupt", "decompress", "page", "parquet", "thrift")
"""Words of pyarrow for the same, which raises OSError for it."""


def log_fault(fault: DataFault) -> None:
    """Log the fault with the file's path, which no answer names."""
    log.error(
        "data file unusable", kind=fault.kind, table=fault.table, version=fault.version, path=fault.path
    )


def never() -> bool:
    """Return False: the work is not given up."""
    return False


class GivenUp(Exception):
    """The caller no longer waits for the verification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A file was whole at `at` (monotonic seconds), with this state on the local disk."""

    at: float
    state: tuple[int, ...] | None


class FileVerifier:
    """Verifies each file at its first use and again after `verdict_seconds`; safe for threads.

    A file in a local folder is verified again as soon as its size, inode or time of change differs. The
    verdicts of the files used last are kept; a damaged file is looked at again on every use.
    """

    def __init__(
        self,
        *,
        verdict_seconds: float = 3600.0,
        report: Report = log_fault,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = verdict_seconds
        self.report = report
        self._monotonic = monotonic
        self._verdicts = Recent[str, Verdict](limit=KNOWN_FILES)
        self._locks = [Lock() for _ in range(LOCKS)]

    def verify(
        self,
        paths: Sequence[str],
        *,
        io: FileIO,
        table: str,
        version: int | None = None,
        stopped: Callable[[], bool] = never,
    ) -> None:
        """Return when every file with a digest is whole.

        Raises DataDamaged or DataMissing, GivenUp once `stopped`, and what the store raises.
        """
        due = [path for path in paths if not self._is_known(path, io, table, version)]
        if len(due) < 2:
            for path in due:
                self._verify_one(path, io, table, version, stopped)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda path: self._verify_one(path, io, table, version, stopped), due))

    def explain(self, paths: Sequence[str], *, io: FileIO, table: str, version: int | None = None) -> None:
        """Look at the files of a query that failed.

        Raises DataDamaged or DataMissing for the first that is at fault; returns when none is.
        """
        for path in paths:
            with self._reported(), faults(table, path, version):
                if not io.new_input(path).exists():
                    raise DataMissing(table, path=path, version=version)
                if digest_in(path) is not None:
                    if not self._is_known(path, io, table, version):
                        check_whole(io, path, table=table, version=version)
                else:
                    with io.new_input(path).open() as stream:
                        pq.ParquetFile(stream, page_checksum_verification=True).read()

    def _is_known(self, path: str, io: FileIO, table: str, version: int | None) -> bool:
        verdict = self._verdicts.get(path)
        if verdict is None or self._monotonic() - verdict.at >= self._seconds:
            return False
        if verdict.state is None:
            return True
        with self._reported(), faults(table, path, version):
            return local_state(path) == verdict.state

    def _verify_one(
        self, path: str, io: FileIO, table: str, version: int | None, stopped: Callable[[], bool]
    ) -> None:
        # Several queries that begin with one cold file read it once.
        with self._locks[hash(path) % LOCKS]:
            if self._is_known(path, io, table, version):
                return
            with self._reported(), faults(table, path, version):
                at, state = self._monotonic(), local_state(path)
                if digest_in(path) is not None:
                    check_whole(io, path, table=table, version=version, stopped=stopped)
                elif state is None and not io.new_input(path).exists():
                    raise DataMissing(table, path=path, version=version)
                self._verdicts.put(path, Verdict(at=at, state=state))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except DataFault as fault:
            self.report(fault)
            raise


def local_state(path: str) -> tuple[int, ...] | None:
    """Return what the file system says of a local file; None for one in an object store."""
    if path.startswith("file:"):
        # Spark writes one slash after the scheme, others three.
        path = f"/{path.removeprefix('file:').lstrip('/')}"
    elif "://" in path:
        return None
    found = Path(path).stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@contextmanager
def faults(table: str, path: str, version: int | None = None) -> Iterator[None]:
    """Raise DataMissing for a file that is not there and DataDamaged for one that cannot be parsed.

    Only for a block that reads and parses `path`: what else it raises as ValueError is taken for damage.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataMissing(table, path=path, version=version) from error
    except PARSING as error:
        raise DataDamaged(table, path=path, version=version) from error
    except OSError as error:
        # So pyarrow says that pages or a footer cannot be read; the system's own errors have a number.
        if error.errno is not None or isinstance(error, (ConnectionError, TimeoutError)):
            raise
        if any(word in str(error).lower() for word in UNREADABLE):
            raise DataDamaged(table, path=path, version=version) from error
        raise


def check_whole(
    io: FileIO,
    path: str,
    *,
    table: str,
    version: int | None = None,
    stopped: Callable[[], bool] = never,
) -> int:
    """Read the whole file in pieces and return its bytes' count; its name has a digest.

    Raises DataDamaged, DataMissing, GivenUp once `stopped`, and what the store raises.
    """
    digest, named, size = hashlib.sha256(), digest_in(path), 0
    with faults(table, path, version), io.new_input(path).open() as stream:
        while piece := stream.read(PIECE_BYTES):
            if stopped():
                raise GivenUp(path)
            digest.update(piece)
            size += len(piece)
    if named is not None and not named.fits(digest.digest()):
        raise DataDamaged(table, path=path, version=version)
    return size


def read_whole(io: FileIO, path: str, *, table: str) -> bytes:
    """Return the bytes of a file, verified where its name has a digest.

    Raises DataDamaged, DataMissing, and what the store raises.
    """
    with faults(table, path), io.new_input(path).open() as stream:
        data: bytes = stream.read()
    named = digest_in(path)
    if named is not None and not named.fits(hashlib.sha256(data).digest()):
        raise DataDamaged(table, path=path)
    return data


@contextmanager
def open_parquet(io: FileIO, path: str, *, table: str) -> Iterator[pq.ParquetFile]:
    """Open a data file for one reader that must not be deceived: what it reads is what was verified.

    A file with a digest is read whole first; of another the pages are verified as they are read. Raises
    DataDamaged and DataMissing, within the block too, and what the store raises.
    """
    if digest_in(path) is not None:
        yield pq.ParquetFile(pa.BufferReader(read_whole(io, path, table=table)))
        return
    with faults(table, path):
        stream: Any = io.new_input(path).open()
        with stream:
            yield pq.ParquetFile(stream, page_checksum_verification=True)


def read_footer_bytes(io: FileIO, path: str, *, table: str) -> bytes:
    """Return the footer of a data file with its length and `PAR1`, verified where the name has its digest.

    Raises DataDamaged, DataMissing, and what the store raises.
    """
    source = io.new_input(path)
    named = digest_in(path)
    with faults(table, path):
        size = len(source)
        with source.open() as stream:
            stream.seek(max(0, size - TAIL_BYTES))
            length = footer_length(stream.read(TAIL_BYTES))
            if not TAIL_BYTES < length <= size:
                raise DataDamaged(table, path=path)
            stream.seek(size - length)
            footer: bytes = stream.read(length)
        if not (named or FileDigest()).fits_footer(footer):
            raise DataDamaged(table, path=path)
    return footer
