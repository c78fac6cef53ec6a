"""What a body may be, checked while it comes; each limit has a plain refusal."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import numpy as np
from k2common.http.problems import Problem

NEWLINE = 0x0A
CHECK_BYTES = 8 * 1024 * 1024
RETRY_SECONDS = "5"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The longest content and line, and the disk that stays free."""

    content_bytes: int
    line_bytes: int
    reserve_bytes: int


class Guard:
    """Watches one content as it is written to `folder`."""

    def __init__(self, limits: Limits, folder: Path, *, is_packed: Callable[[], bool]) -> None:
        """Lines are not looked for in a content that is packed."""
        self._limits = limits
        self._folder = folder
        self._is_packed = is_packed
        self._size = 0
        self._run = 0
        self._unchecked = CHECK_BYTES

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def check(self, part: bytes) -> None:
        """Raise Problem 413, 422 or 507 when the content with this part is beyond a limit."""
        self._size += len(part)
        if self._size > self._limits.content_bytes:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "UPLOAD_TOO_LARGE",
                f"the content is longer than {self._limits.content_bytes} bytes",
            )
        if not self._is_packed():
            self._check_lines(part)
        self._unchecked += len(part)
        if self._unchecked >= CHECK_BYTES:
            self._check_disk()

    def _check_lines(self, part: bytes) -> None:
        first = part.find(b"\n")
        longest = self._run + (len(part) if first < 0 else first)
        if first >= 0 and len(part) > self._limits.line_bytes:
            at = np.flatnonzero(np.frombuffer(part, np.uint8) == NEWLINE)
            longest = max(longest, int(np.diff(at).max(initial=0)))
        self._run = longest if first < 0 else len(part) - part.rfind(b"\n") - 1
        if max(longest, self._run) > self._limits.line_bytes:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "LINE_TOO_LONG",
                f"a line is longer than {self._limits.line_bytes} bytes",
            )

    def _check_disk(self) -> None:
        self._unchecked = 0
        if shutil.disk_usage(self._folder).free < self._limits.reserve_bytes:
            raise _spool_full("nearly full")


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """Raise Problem 507 where the disk of the spool, or the part of it that may be used, is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise _spool_full("full") from error


def _spool_full(state: str) -> Problem:
    return Problem(
        HTTPStatus.INSUFFICIENT_STORAGE,
        "SPOOL_FULL",
        f"the disk for bodies that wait is {state}",
        headers={"Retry-After": RETRY_SECONDS},
    )
