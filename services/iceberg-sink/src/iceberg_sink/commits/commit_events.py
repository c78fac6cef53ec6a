"""The uploads that a commit settles: told to the log, to their traces and to the commit's announcement.

A commit holds rows of many uploads, so it is a trace of its own. Each upload that it settles has a span in
its own trace, beside its statuses, that links to the commit and lasts as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from k2common.observability.logging import get_logger
from k2common.observability.tracing import (
    TRACEPARENT,
    UPLOAD_TRACE,
    Carried,
    Span,
    begun,
    inject,
    joined,
    nanoseconds,
    tracer,
)
from k2common.versions.version import Version

from iceberg_sink.commits.version_change import SinkChange
from iceberg_sink.uploads.visibility import is_settled

UPLOADS_CARRIED = 100
"""So many uploads' traces go on in an announcement; those of more end with the commit."""
VISIBLE = "visible"
log = get_logger(__name__)
spans = tracer(__name__)


class AppliedChange:
    """A change that remembers the head which it was applied to last."""

    def __init__(self, change: SinkChange) -> None:
        self._change = change
        self._head: Version | None = None

    def __call__(self, head: Version | None) -> Version:
        """As the change."""
        self._head = head
        return self._change(head)

    def ended(self, version: Version) -> Mapping[str, str]:
        """The uploads that `version` settles and the head did not: `visible`, or why they are hidden."""
        topic, head = self._change.dataset.topic.name, self._head
        found = {}
        for upload_id, progress in self._change.progress.items():
            before = head is not None and is_settled(progress, head, topic=topic)
            if not before and is_settled(progress, version, topic=topic):
                entry = version.hidden.get(upload_id)
                found[upload_id] = VISIBLE if entry is None else entry.reason.value
        return found

    @property
    def began_ns(self) -> int:
        """When the commit was proposed."""
        return nanoseconds(self._change.now)


@contextmanager
def commit_span(table: str, *, rows: int) -> Iterator[Span]:
    """The span of one commit."""
    with begun(spans, "commit", attributes={"k2.table": table, "k2.rows": rows}) as span:
        yield span


def tell_ended(change: AppliedChange, version: Version, *, trace_of: Callable[[str], Carried]) -> Carried:
    """Tell of each upload that `version` settles; what its announcement carries on.

    Called in the commit's span. `trace_of` gives the span that made an upload's last status.
    """
    carried = list(inject())
    for upload_id, outcome in change.ended(version).items():
        told = {"upload_id": upload_id, "table": version.table, "version": version.number, "outcome": outcome}
        trace = trace_of(upload_id)
        if not trace:
            log.info("upload settled", **told)
            continue
        with joined(spans, "settle upload", trace, since_ns=change.began_ns, **told):
            log.info("upload settled", **told)
            if outcome == VISIBLE and len(carried) < UPLOADS_CARRIED:
                carried += [(UPLOAD_TRACE, value) for name, value in inject() if name == TRACEPARENT]
    return tuple(carried)
