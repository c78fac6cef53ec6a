"""What has to hold after every step, and what when nothing more happens."""

from __future__ import annotations

from functools import lru_cache

from k2common.iceberg.commits import decision
from k2common.iceberg.versions.documents import tagged_version
from k2common.versions.hidden import Reason
from k2common.versions.version import Version

from tests.model.catalogue import Metadata
from tests.model.protocol import Protocol
from tests.model.world import State

version = lru_cache(maxsize=None)(Version.from_json)


class Promises:
    """The promises of the sink to its readers."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._scenario = protocol.scenario

    def broken(self, before: State, label: str, after: State) -> str | None:
        """The promise that this step breaks, if any."""
        if (before.catalogue, before.history) == (after.catalogue, after.history):
            return None
        if decision.is_lost(Metadata(after.catalogue)):  # type: ignore[arg-type]
            return None  # the sink refuses to go on
        head, last = self._protocol.head(after.catalogue), self._protocol.head(before.catalogue)
        if self._rows_are_wrong(after, head):
            return "an offset is not in the table exactly once"
        if last is not None and not label.startswith("main goes back") and self._went_back(last, head):
            return "an offset goes back"
        if len(after.history) > len(before.history):
            found = self._of_a_new_version(before, after, last)
            if found:
                return found
        tagged = tagged_version(Metadata(after.catalogue))  # type: ignore[arg-type]
        if after.history and (tagged is None or tagged.number < version(after.history[-1][0]).number):
            return "the tag is behind"
        return self._of_any_version(after, head)

    def broken_at_rest(self, state: State) -> str | None:
        """What is wrong if nothing more happens."""
        if decision.is_lost(Metadata(state.catalogue)):  # type: ignore[arg-type]
            return None
        head = self._protocol.head(state.catalogue)
        if head is None or any(head.offsets.get(p, 0) < end for p, end in self._protocol.ends(state).items()):
            return "rows are never committed"
        loading = [u for u, entry in head.hidden.items() if entry.reason is Reason.LOADING]
        # After a rollback uploads that were shown may be loading until a sink is restarted.
        if loading and not head.gone and not state.rolled_back:
            return f"{loading} stay hidden as loading"
        return None

    def _rows_are_wrong(self, state: State, head: Version | None) -> bool:
        offsets = {} if head is None else head.offsets
        passed = [(p, o) for p, end in sorted(offsets.items()) for o in range(end)]
        expected = [place for place in passed if place not in self._scenario.strays]
        return list(state.catalogue.rows()) != expected

    def _went_back(self, last: Version, head: Version | None) -> bool:
        return head is None or any(head.offsets.get(p, 0) < end for p, end in last.offsets.items())

    def _of_a_new_version(self, before: State, after: State, last: Version | None) -> str | None:
        new = version(after.history[-1][0])
        for document, _ in before.history:
            old = version(document)
            if new.number <= old.number:
                return f"number {new.number} comes after {old.number}"
            if new.committed_at <= old.committed_at:
                return "time does not grow"
        for upload, entry in ({} if last is None else last.hidden).items():
            now = new.hidden.get(upload)
            if entry.reason is not Reason.LOADING and (now is None or now.reason is not entry.reason):
                return f"{upload}, hidden as {entry.reason}, is {now and now.reason} now"
        return self._of_replacements(after, new)

    def _of_replacements(self, state: State, new: Version) -> str | None:
        rows = state.catalogue.rows()
        for young, old in self._scenario.replaces.items():
            shown = self._protocol.shown(new, rows)
            seen = [u for u in (young, old) if self._scenario.rows_of(u) & shown]
            if len(seen) == 2:
                return f"{young} and {old}, which it replaces, are both shown"
            entries = [new.hidden[u] for u in (young, old) if u in new.hidden]
            reasons = {entry.reason for entry in entries}
            if not seen and Reason.REPLACED in reasons and Reason.RETRACTED not in reasons:
                return f"neither {young} nor {old}, which it replaces, is shown"
        return None

    def _of_any_version(self, state: State, head: Version | None) -> str | None:
        rows = state.catalogue.rows()
        for document, then in state.history:
            old = version(document)
            if head is None or old.number > head.number or head.is_gone(old.number):
                continue  # a reader is told that it is gone
            now = self._protocol.shown(old, rows)
            if now != then:
                return f"version {old.number} showed {sorted(then)} and shows {sorted(now)}"
            for upload in self._scenario.uploads:
                held = self._scenario.rows_of(upload)
                if 0 < len(held & now) < len(held):
                    return f"version {old.number} shows a part of {upload}"
                if upload in self._scenario.failed and held & now:
                    return f"version {old.number} shows {upload}, which failed"
        return None
