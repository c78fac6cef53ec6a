"""A catalogue as values: what the decision core reads of a table's metadata, and what a commit does to it."""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

from k2common.iceberg.commits import decision
from k2common.iceberg.versions import documents
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import SetSnapshotRefUpdate

TABLE = UUID(int=1)
Row = tuple[int, int]
"""Partition and offset."""


class Snap(NamedTuple):
    """A snapshot: the rows that it holds, each as often as it holds it."""

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int
    rows: tuple[Row, ...]
    document: str | None = None
    commit_id: str | None = None

    @property
    def summary(self) -> Any:
        entries = {documents.VERSION_KEY: self.document, documents.COMMIT_ID_KEY: self.commit_id}
        return SimpleNamespace(additional_properties={k: v for k, v in entries.items() if v is not None})


class Catalogue(NamedTuple):
    """One table's snapshots, where main and the tag point, and the last sequence number."""

    snapshots: tuple[Snap, ...] = ()
    main: int | None = None
    tag: int | None = None
    sequence: int = 0

    def by_id(self, snapshot_id: int | None) -> Snap | None:
        return next((s for s in self.snapshots if s.snapshot_id == snapshot_id), None)

    def rows(self) -> tuple[Row, ...]:
        head = self.by_id(self.main)
        return () if head is None else head.rows

    def with_main(self, snapshot: Snap) -> Catalogue:
        """What another engine's commit does: the tag stays."""
        return self._replace(
            snapshots=(*self.snapshots, snapshot),
            main=snapshot.snapshot_id,
            sequence=snapshot.sequence_number,
        )

    def without(self, gone: frozenset[int], *, cut: bool) -> Catalogue:
        """Expired; `cut` forgets the expired parents, as some engines do, and others do not."""
        kept = [s for s in self.snapshots if s.snapshot_id not in gone]
        if cut:
            kept = [s._replace(parent_snapshot_id=None) if s.parent_snapshot_id in gone else s for s in kept]
        return self._replace(snapshots=tuple(kept))


class Metadata:
    """The part of a table's metadata that the core reads, by the library's names."""

    table_uuid = TABLE
    current_schema_id = 0

    def __init__(self, catalogue: Catalogue) -> None:
        self.snapshots = catalogue.snapshots
        self.current_snapshot_id = catalogue.main
        places = {MAIN_BRANCH: catalogue.main, documents.STATE_TAG: catalogue.tag}
        self.refs = {
            name: SimpleNamespace(snapshot_id=at, snapshot_ref_type="ref")
            for name, at in places.items()
            if at is not None
        }

    @cached_property
    def by_id(self) -> dict[int, Snap]:
        return {snapshot.snapshot_id: snapshot for snapshot in self.snapshots}

    def snapshot_by_name(self, name: str) -> Snap | None:
        reference = self.refs.get(name)
        return None if reference is None else self.by_id.get(reference.snapshot_id)


class Request(NamedTuple):
    """A commit as it was sent: a snapshot, the catalogue that it was built on, and what it expires."""

    snapshot: Snap
    main: int | None
    tag: int | None
    empty: bool
    gone: tuple[int, ...] = ()


class Store:
    """Obeys requests as a catalogue does, by the requirements and updates that the core makes."""

    def __init__(self) -> None:
        self._guards: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._verdicts: dict[tuple[Any, ...], bool] = {}

    def after(self, catalogue: Catalogue, request: Request) -> Catalogue | None:
        """The catalogue with the commit, None when it is refused."""
        key = (request.snapshot.snapshot_id, request.main, request.tag, request.empty)
        if key not in self._guards:
            self._guards[key] = self._guard(request)
        updates, requirements = self._guards[key]
        now = (catalogue.main, catalogue.tag, not catalogue.snapshots)
        if (key, now) not in self._verdicts:
            self._verdicts[(key, now)] = _holds(requirements, catalogue)
        ids = {snapshot.snapshot_id for snapshot in catalogue.snapshots}
        if not self._verdicts[(key, now)] or not ids.issuperset(request.gone):
            return None
        names = {u.ref_name for u in updates if isinstance(u, SetSnapshotRefUpdate)}
        at = request.snapshot.snapshot_id
        landed = catalogue._replace(
            snapshots=(*catalogue.snapshots, request.snapshot),
            main=at if MAIN_BRANCH in names else catalogue.main,
            tag=at if documents.STATE_TAG in names else catalogue.tag,
            sequence=request.snapshot.sequence_number,
        )
        return landed.without(frozenset(request.gone), cut=True)

    def _guard(self, request: Request) -> tuple[Any, Any]:
        stub = Snapshot(snapshot_id=request.snapshot.snapshot_id, manifest_list="")
        seen = Metadata(Catalogue(main=request.main, tag=request.tag))
        seen.snapshots = () if request.empty else (request.snapshot,)
        return decision.guarded(seen, stub)  # type: ignore[arg-type]


def _holds(requirements: Any, catalogue: Catalogue) -> bool:
    metadata = Metadata(catalogue)
    try:
        for requirement in requirements:
            requirement.validate(metadata)
    except CommitFailedException:
        return False
    return True
