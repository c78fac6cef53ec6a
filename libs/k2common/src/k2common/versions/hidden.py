"""Which uploads a version does not show: told by its document, or by a file and what has changed since.

A document is in the table's metadata once for every live snapshot, and whoever follows the versions holds
thousands of them. So many hidden uploads are not written into each, but once into a file that never changes
and that many documents name.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias


class Reason(StrEnum):
    """Why an upload's rows are not shown."""

    LOADING = "loading"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    RETRACTED = "retracted"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class OffsetRange:
    """Offsets `first` to `end` (exclusive) of one partition in one epoch."""

    epoch: int
    partition: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenUpload:
    """An upload that is not shown, where its rows lie as far as known, and the upload that replaced it."""

    reason: Reason
    ranges: tuple[OffsetRange, ...] = ()
    by: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is never shown again; only what loads ever is."""
        return self.reason is not Reason.LOADING

    def to_json(self) -> dict[str, Any]:
        """As documents and files have it."""
        return {
            "reason": str(self.reason),
            "ranges": [[r.epoch, r.partition, r.first, r.end] for r in self.ranges],
            **({} if self.by is None else {"by": self.by}),
        }


Files: TypeAlias = Callable[[str], Mapping[str, HiddenUpload]]
"""The hidden uploads in the file at a location."""


def unread(location: str) -> Mapping[str, HiddenUpload]:
    """For documents of which nothing is asked that their files tell."""
    raise RuntimeError(f"{location} cannot be read from here")


class AmendedHiddenUploads(Mapping[str, HiddenUpload]):
    """The hidden uploads in the file at `location` but for the `changes`; None: hidden no more.

    The file is read when the changes do not answer. Then each method may raise what `files` raises.
    """

    __slots__ = ("_files", "changes", "location")

    def __init__(self, location: str, changes: Mapping[str, HiddenUpload | None], files: Files) -> None:
        self.location = location
        self.changes = changes
        self._files = files

    def __getitem__(self, upload_id: str) -> HiddenUpload:
        entry = self.changes[upload_id] if upload_id in self.changes else self._stored[upload_id]
        if entry is None:
            raise KeyError(upload_id)
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    # The ones that mappings have look each entry up by itself.
    def items(self) -> ItemsView[str, HiddenUpload]:
        return self._whole().items()

    def values(self) -> ValuesView[HiddenUpload]:
        return self._whole().values()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AmendedHiddenUploads) and (other.location, other.changes) == (
            self.location,
            self.changes,
        ):
            return True
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment] # as every mapping's

    def load(self) -> None:
        """Read the file now, in a worker thread, so that nothing below has to."""
        self._files(self.location)

    def amended(self, hidden: Mapping[str, HiddenUpload]) -> AmendedHiddenUploads:
        """`hidden` by the same file."""
        if isinstance(hidden, AmendedHiddenUploads) and hidden.location == self.location:
            return hidden
        stored = self._stored
        changes: dict[str, HiddenUpload | None] = {u: None for u in stored if u not in hidden}
        changes |= {u: entry for u, entry in hidden.items() if not _is_same(stored.get(u), entry)}
        return AmendedHiddenUploads(self.location, changes, self._files)

    def _whole(self) -> dict[str, HiddenUpload]:
        both = {**self._stored, **self.changes}
        return {upload: entry for upload, entry in both.items() if entry is not None}

    @property
    def _stored(self) -> Mapping[str, HiddenUpload]:
        return self._files(self.location)


def to_json(hidden: Mapping[str, HiddenUpload]) -> dict[str, Any]:
    """The part of a version's document that says what it hides."""
    if not isinstance(hidden, AmendedHiddenUploads):
        return {"hidden": {upload: entry.to_json() for upload, entry in hidden.items()}}
    changes = {upload: entry and entry.to_json() for upload, entry in hidden.changes.items()}
    return {"hidden": changes, "hidden_in": hidden.location}


def from_json(document: Mapping[str, Any], files: Files) -> Mapping[str, HiddenUpload]:
    """What `to_json` made; no file is read for it."""
    location = document.get("hidden_in")
    if location is None:
        return entries(document["hidden"])
    gone = dict.fromkeys(upload for upload, entry in document["hidden"].items() if entry is None)
    return AmendedHiddenUploads(location, gone | entries(document["hidden"]), files)


def entries(document: Mapping[str, Mapping[str, Any] | None]) -> dict[str, HiddenUpload]:
    """Uploads and what `Hidden.to_json` made of each; those of None are left out."""
    return dict(
        _entry(upload, entry["reason"], tuple(map(tuple, entry["ranges"])), entry.get("by"))
        for upload, entry in document.items()
        if entry is not None
    )


@lru_cache(maxsize=65_536)
def _entry(
    upload: str, reason: str, ranges: tuple[tuple[int, int, int, int], ...], by: str | None
) -> tuple[str, HiddenUpload]:
    # The same objects for the same entry: thousands of versions are held, and most hide the same uploads.
    places = (OffsetRange(epoch=e, partition=p, first=first, end=end) for e, p, first, end in ranges)
    return upload, HiddenUpload(reason=Reason(reason), ranges=tuple(places), by=by)


def _is_same(known: HiddenUpload | None, entry: HiddenUpload) -> bool:
    # Most are the very objects of the file.
    return known is entry or known == entry
