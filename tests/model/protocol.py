"""Every order of events of two sinks, a compactor, other engines and users on one table, a step at a time.

The sinks take their decisions by the code that the service runs: what to do with a commit (`decide`), what it
is guarded by (`guarded`), what a version hides (`SinkChange`, `is_due`, `is_settled`) and what expires
(`expired`). Both own every partition at once, as a zombie and its successor do. All else is modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from iceberg_sink.commits.version_change import SinkChange
from iceberg_sink.uploads.visibility import Commanded, Ranges, is_due, is_settled
from k2common.domain.progress import Progress
from k2common.errors import Fenced, SetupError
from k2common.iceberg.commits import decision, expiry
from k2common.iceberg.versions import documents
from k2common.schemas.datasets import TRADES
from k2common.versions.hidden import OffsetRange, Reason
from k2common.versions.version import Version

from tests.model.catalogue import Catalogue, Metadata, Request, Row, Snap, Store
from tests.model.world import (
    FEWEST,
    NOW,
    RETENTION,
    TOPIC,
    Fact,
    Scenario,
    Sink,
    State,
    Step,
    Work,
)


class Protocol:
    """The steps that are possible in a state of the scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._store = Store()
        self._progress = {upload: scenario.progress(upload) for upload in scenario.uploads}
        self._decisions: dict[Any, Any] = {}
        self._heads: dict[Catalogue, Version | None] = {}

    def first(self) -> State:
        posted = [u for u in self.scenario.uploads if u not in self.scenario.replaces]
        return State(public=frozenset(("done", u) for u in posted), left=self.scenario.disruptions)

    def steps(self, state: State) -> Iterator[Step]:
        """Every possible next state, and what leads there."""
        for at, sink in enumerate(state.sinks):
            for label, after, changed in self._sink_steps(state, sink):
                sinks = tuple(sorted((changed, state.sinks[1 - at]), key=hash))  # neither has a name
                yield f"sink: {label}", after._replace(sinks=sinks)
        yield from self._compactor_steps(state)
        for request in state.late:
            landed = self._landed(state, request)
            if landed is not None:
                rest = list(state.late)
                rest.remove(request)
                yield "a late request lands", landed._replace(late=tuple(rest))
        yield from self._users(state)
        if state.left:
            yield from self._disruptions(state._replace(left=state.left - 1))

    # --- sinks

    def _sink_steps(self, state: State, sink: Sink) -> Iterator[tuple[str, State, Sink]]:
        unheard = state.public - sink.facts
        if self.scenario.informed and unheard:
            yield "hears all", state, sink._replace(facts=state.public)
            return
        for fact in sorted(unheard):
            yield f"hears {fact}", state, sink._replace(facts=sink.facts | {fact})
        if sink.work is None and sink.expected is None:
            head = self.head(state.catalogue)
            offsets = {} if head is None else head.offsets
            starts = tuple((p, offsets.get(p)) for p in range(len(self.scenario.log)))
            yield "starts", state, sink._replace(expected=starts)
        elif sink.work is None and sink.expected is not None:
            for work in self._proposals(state, sink):
                yield f"proposes {work.kind} {work.offsets}", *self._tried(state, sink._replace(work=work))
            yield from self._looks(state, sink)
            head = self.head(state.catalogue)
            offsets = {} if head is None else head.offsets
            if any(offsets.get(p) != at for p, at in sink.expected):
                yield "finds other offsets in the table", state, sink._replace(expected=None)
        elif sink.work is not None and sink.work.request is None:
            yield "tries again", *self._tried(state, sink)
        elif sink.work is not None and sink.work.request is not None:
            yield from self._sends(state, sink, sink.work, sink.work.request)

    def _sends(
        self, state: State, sink: Sink, work: Work, request: Request
    ) -> Iterator[tuple[str, State, Sink]]:
        landed = self._landed(state, request)
        waiting = sink._replace(work=work._replace(request=None))
        if landed is None:
            yield "is refused", state, waiting
        else:
            yield "commits", landed, self._done(sink, work, _version(request.snapshot))
        if not state.left:
            return
        worse = state._replace(left=state.left - 1)
        if "lost" in self.scenario.kinds:
            yield "sends, lost before its effect", worse, waiting
            late = tuple(sorted((*worse.late, request), key=hash))
            yield "sends, its effect comes late", worse._replace(late=late), waiting
            if landed is not None:
                yield "sends, the answer is lost", landed._replace(left=worse.left), waiting
        if "kill" in self.scenario.kinds:
            yield "dies", worse, Sink(facts=sink.facts)
            if landed is not None:
                yield "commits and dies", landed._replace(left=worse.left), Sink(facts=sink.facts)

    def _proposals(self, state: State, sink: Sink) -> Iterator[Work]:
        starts = dict(sink.expected or ())
        ends = self.ends(state)
        ahead = {p: end for p, end in ends.items() if end > (starts[p] or 0)}
        choices = [{p: (starts[p] or 0) + 1} for p in ahead] + ([ahead] if len(ahead) > 1 else [])
        for offsets in choices:
            if state.public - sink.facts and self._has_stray(starts, offsets):
                continue  # it waits until it has read all statuses that there are
            yield Work(
                number=_unused(state),
                kind="rows",
                expected=tuple((p, starts[p]) for p in offsets),
                offsets=tuple(offsets.items()),
                facts=sink.facts - sink.settled,
            )

    def _looks(self, state: State, sink: Sink) -> Iterator[tuple[str, State, Sink]]:
        head = self.head(state.catalogue)
        if head is None:
            return
        facts = sink.facts - sink.settled
        if is_due(head, self._complete(facts), _commanded(facts), topic=TOPIC):
            work = Work(number=_unused(state), kind="look", facts=facts)
            yield "looks", *self._tried(state, sink._replace(work=work))
        elif (settled := self._settled(sink, head)) != sink.settled:
            yield "forgets", state, sink._replace(settled=settled)

    def _tried(self, state: State, sink: Sink) -> tuple[State, Sink]:
        """The table is read, and it is decided what to do."""
        work = sink.work
        assert work is not None
        try:
            decided = self._decide(state.catalogue, work)
        except (Fenced, SetupError):
            return state, sink._replace(expected=None, work=None)
        if isinstance(decided, decision.CommitLanded):
            return state, self._done(sink, work, decided.version)
        request = self._request(state.catalogue, work, decided.version)
        return state, sink._replace(work=work._replace(request=request))

    def _done(self, sink: Sink, work: Work, version: Version) -> Sink:
        expected = tuple({**dict(sink.expected or ()), **dict(work.offsets)}.items())
        return sink._replace(expected=expected, work=None, settled=self._settled(sink, version))

    # --- commits

    def _decide(self, catalogue: Catalogue, work: Work) -> decision.CommitLanded | decision.Attempt:
        key = (catalogue, work._replace(request=None))
        if key not in self._decisions:
            try:
                self._decisions[key] = decision.decide(Metadata(catalogue), self._proposal(work))  # type: ignore[arg-type]
            except (Fenced, SetupError) as refusal:
                self._decisions[key] = refusal
        decided = self._decisions[key]
        if isinstance(decided, Exception):
            raise decided
        return decided  # type: ignore[no-any-return]

    def _proposal(self, work: Work) -> decision.Proposal:
        compacts = work.kind == "compact"
        change = SinkChange(
            dataset=TRADES,
            epoch=0,
            now=NOW,
            offsets={p: end for p, end in work.offsets if end is not None},
            arrived=self._arrived(work),
            progress=self._complete(work.facts),
            commanded=_commanded(work.facts),
        )
        return decision.Proposal(
            table=TRADES.table,
            epoch=0,
            change=_same if compacts else change,
            expected=dict(work.expected),
            same_version=compacts,
            commit_id=str(work.number),
        )

    def _request(self, catalogue: Catalogue, work: Work, version: Version) -> Request:
        starts = dict(work.expected)
        passed = ((p, o) for p, end in work.offsets for o in range(starts[p] or 0, end or 0))
        new = [place for place in passed if self.is_row(place)]
        snapshot = Snap(
            snapshot_id=work.number,
            parent_snapshot_id=catalogue.main,
            sequence_number=catalogue.sequence + 1,
            rows=tuple(sorted((*catalogue.rows(), *new))),
            document=version.to_json(),
            commit_id=str(work.number),
        )
        gone = expiry.expired(Metadata(catalogue), RETENTION, adding=1)  # type: ignore[arg-type]
        return Request(snapshot, catalogue.main, catalogue.tag, not catalogue.snapshots, tuple(gone))

    def _landed(self, state: State, request: Request) -> State | None:
        catalogue = self._store.after(state.catalogue, request)
        if catalogue is None:
            return None
        document = request.snapshot.document or ""
        history = state.history
        if all(document != known for known, _ in history):
            history = (*history, (document, self.shown(_version(request.snapshot), request.snapshot.rows)))
        return state._replace(catalogue=catalogue, history=history, rolled_back=False)

    def _compactor_steps(self, state: State) -> Iterator[Step]:
        work = state.compactor
        if work is None:
            return
        if work.request is not None:
            landed = self._landed(state, work.request)
            if landed is not None:
                yield "compaction commits", landed._replace(compactor=None)
        yield "compaction gives up", state._replace(compactor=None)

    # --- the world

    def _users(self, state: State) -> Iterator[Step]:
        head = self.head(state.catalogue)
        shown = frozenset() if head is None else self.shown(head, state.catalogue.rows())
        for new, old in self.scenario.replaces.items():
            if ("done", new) not in state.public and self.scenario.rows_of(old) <= shown:
                yield f"{new} is posted", state._replace(public=state.public | {("done", new)})
        for upload in self.scenario.retractable:
            if ("retract", upload) not in state.public and self.scenario.rows_of(upload) <= shown:
                yield f"{upload} is retracted", state._replace(public=state.public | {("retract", upload)})

    def _disruptions(self, state: State) -> Iterator[Step]:
        kinds, catalogue = self.scenario.kinds, state.catalogue
        head = self.head(catalogue)
        if "foreign" in kinds:
            parent, number = catalogue.main, _unused(state)
            foreign = Snap(number, parent, catalogue.sequence + 1, catalogue.rows())
            yield "another engine commits", state._replace(catalogue=catalogue.with_main(foreign))
        if "compaction" in kinds and state.compactor is None and head is not None:
            work = Work(number=_unused(state), kind="compact")
            decided = self._decide(catalogue, work)
            if isinstance(decided, decision.Attempt):
                request = self._request(catalogue, work, decided.version)
                yield "compaction begins", state._replace(compactor=work._replace(request=request))
        if "rollback" in kinds:
            for snapshot in list(documents.ancestry(Metadata(catalogue)))[1:]:  # type: ignore[arg-type]
                back = catalogue._replace(main=snapshot.snapshot_id)
                yield (
                    f"main goes back to {snapshot.snapshot_id}",
                    state._replace(catalogue=back, rolled_back=True),
                )
        if "expiry" in kinds:
            yield from self._expiries(state)

    def _expiries(self, state: State) -> Iterator[Step]:
        catalogue = state.catalogue
        ours = frozenset(expiry.expired(Metadata(catalogue), FEWEST))  # type: ignore[arg-type]
        if ours:
            yield "we expire", state._replace(catalogue=catalogue.without(ours, cut=True))
        # Not promised: another engine that rolls back and expires the version it went back to.
        kept = {catalogue.main, catalogue.tag}
        theirs = frozenset(s.snapshot_id for s in catalogue.snapshots if s.snapshot_id not in kept)
        if theirs and not state.rolled_back:
            gone = catalogue.without(theirs, cut=self.scenario.cut)
            yield "another engine expires", state._replace(catalogue=gone)

    # --- what the values say

    def head(self, catalogue: Catalogue) -> Version | None:
        if catalogue not in self._heads:
            self._heads[catalogue] = documents.head_of(Metadata(catalogue))  # type: ignore[arg-type]
        return self._heads[catalogue]

    def shown(self, version: Version, rows: tuple[Row, ...]) -> frozenset[Row]:
        """The rows that a reader of the version sees among these."""
        return frozenset(
            (p, o) for p, o in rows if version.shows(self.scenario.log[p][o], epoch=0, partition=p, offset=o)
        )

    def ends(self, state: State) -> dict[int, int]:
        posted = {upload for kind, upload in state.public if kind == "done"}
        ends = {}
        for partition, log in enumerate(self.scenario.log):
            strays = {o for p, o in self.scenario.strays if p == partition}
            missing = [o for o, upload in enumerate(log) if upload not in posted and o not in strays]
            ends[partition] = missing[0] if missing else len(log)
        return ends

    def is_row(self, place: Row) -> bool:
        """Whether the sink writes the record to the table: a status names it."""
        return place not in self.scenario.strays

    def _has_stray(self, starts: Mapping[int, int | None], offsets: Mapping[int, int]) -> bool:
        return any((starts[p] or 0) <= o < offsets.get(p, 0) for p, o in self.scenario.strays)

    def _complete(self, facts: frozenset[Fact]) -> Mapping[str, Progress]:
        return {upload: self._progress[upload] for kind, upload in sorted(facts) if kind == "done"}

    def _settled(self, sink: Sink, version: Version) -> frozenset[Fact]:
        forgotten = set(sink.settled)
        for kind, upload in sink.facts:
            entry = version.hidden.get(upload)
            if kind == "done" and is_settled(self._progress[upload], version, topic=TOPIC):
                forgotten.add((kind, upload))
            if kind == "retract" and entry is not None and entry.reason is not Reason.LOADING:
                forgotten.add((kind, upload))
        return frozenset(forgotten)

    def _arrived(self, work: Work) -> Mapping[str, Ranges]:
        starts = dict(work.expected)
        found: dict[str, list[OffsetRange]] = {}
        for p, end in work.offsets:
            for o in range(starts[p] or 0, end or 0):
                if not self.is_row((p, o)):
                    continue
                place = OffsetRange(epoch=0, partition=p, first=o, end=o + 1)
                found.setdefault(self.scenario.log[p][o], []).append(place)
        return {upload: tuple(places) for upload, places in found.items()}


def _commanded(facts: frozenset[Fact]) -> Commanded:
    return Commanded(retracted={upload: () for kind, upload in sorted(facts) if kind == "retract"})


def _same(head: Version | None) -> Version:
    assert head is not None
    return head


def _version(snapshot: Snap) -> Version:
    assert snapshot.document is not None
    return Version.from_json(snapshot.document)


def _unused(state: State) -> int:
    works = [sink.work for sink in state.sinks] + [state.compactor]
    numbers = [s.snapshot_id for s in state.catalogue.snapshots]
    numbers += [s.parent_snapshot_id or 0 for s in state.catalogue.snapshots]
    numbers += [work.number for work in works if work is not None]
    numbers += [request.snapshot.snapshot_id for request in state.late]
    return max(numbers, default=0) + 1
