"""The first read of an upload by this replica ends the upload's trace."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from k2common.observability.tracing import TRACEPARENT, UPLOAD_TRACE, joined, tracer
from k2common.versions.version import Version

VERSIONS_KEPT = 1_000
"""Of each table; older ones that nobody has read are forgotten."""
spans = tracer(__name__)


class FirstReads:
    """Per table the announced versions that no request has read yet, with the traces of what they show."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, tuple[bytes, ...]]]] = {}

    def note(self, table: str, number: int, headers: Iterable[tuple[str, bytes]]) -> None:
        """Take an announcement with its headers; one without a trace is not kept."""
        traces = tuple(value for name, value in headers if name == UPLOAD_TRACE)
        if traces:
            waiting = self._waiting.setdefault(table, deque(maxlen=VERSIONS_KEPT))
            waiting.append((number, traces))

    def read(self, versions: Iterable[Version]) -> None:
        """A request reads these versions: each upload first seen in them has a span that links to it."""
        for version in versions:
            waiting = self._waiting.get(version.table)
            while waiting and waiting[0][0] <= version.number:
                number, traces = waiting.popleft()
                for trace in traces:
                    _tell(version, trace, shown_in=number)


def _tell(version: Version, trace: bytes, *, shown_in: int) -> None:
    with joined(
        spans,
        "first read",
        [(TRACEPARENT, trace)],
        table=version.table,
        version=version.number,
        shown_in=shown_in,
    ):
        return
