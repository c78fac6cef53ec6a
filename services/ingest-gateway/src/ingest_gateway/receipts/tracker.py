"""What this replica knows of all uploads, from the topics alone; every replica knows the same."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeAlias

from k2common.domain.progress import Progress
from k2common.errors import RecordError, TransientError
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.layouts.upload import UploadSpec
from k2common.observability.tracing import Carried, carried
from k2common.query.version_follower import load_hidden
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock, SystemClock
from k2common.schemas.datasets import CLAIMS, COMMITS, MARKET_DATASETS, REDRIVES, STATUS, UPLOADS, Topic
from k2common.settings.kafka import KafkaSettings
from k2common.versions.hidden import Files, HiddenUpload
from k2common.versions.version import Version

from ingest_gateway.claims.claims import Claim
from ingest_gateway.receipts.conservation import Conservation
from ingest_gateway.receipts.dead_letters import DeadLetters

KEPT_VERSIONS = 20_000
"""Versions kept per table. An upload that waited for longer is answered with the oldest that is kept."""

Take: TypeAlias = Callable[[Mapping[str, Any], Carried], Awaitable[None]]
"""Takes a message and the trace that it carries."""


class Commits:
    """The newest versions of one table, in their order."""

    def __init__(self) -> None:
        self._versions: list[Version] = []

    def add(self, version: Version) -> None:
        """Take an announcement; one that came before changes nothing."""
        at = bisect_left(self._versions, version.number, key=lambda known: known.number)
        if at == len(self._versions) or self._versions[at].number != version.number:
            self._versions.insert(at, version)
        if len(self._versions) > 2 * KEPT_VERSIONS:
            del self._versions[:KEPT_VERSIONS]

    @property
    def newest(self) -> Version | None:
        """The last version that was announced."""
        return self._versions[-1] if self._versions else None

    def first(self, shows: Callable[[Version], bool], *, covers: Callable[[Version], bool]) -> Version | None:
        """The first version that covers, and from there on the first that shows; offsets never go back."""
        start = bisect_left(self._versions, 1, key=lambda version: int(covers(version)))
        return next((version for version in islice(self._versions, start, None) if shows(version)), None)


@dataclass(slots=True, kw_only=True)
class Upload:
    """One upload as the topics tell it; a final receipt replaces all else."""

    spec: UploadSpec | None = None
    claim: Claim | None = None
    progress: Progress | None = None
    final: Mapping[str, Any] | None = None
    repaired_by: set[str] = field(default_factory=set)
    changed_at: datetime | None = None
    published_at: datetime | None = None
    counted: int = -1
    """The statuses up to this one are in the ledgers; an upload's come in order."""

    @property
    def known(self) -> bool:
        """Whether there is enough of it for a receipt."""
        return self.spec is not None or self.final is not None


class Tracker:
    """Follows claims, statuses, commits and final receipts."""

    def __init__(self, clock: Clock | None = None, *, blocked_after_seconds: float = 5.0) -> None:
        self.clock = clock or SystemClock()
        self.blocked_after = timedelta(seconds=blocked_after_seconds)
        self.uploads: dict[str, Upload] = {}
        self.commits: dict[str, Commits] = {}
        self.open: set[str] = set()
        self.complete = False
        """Whether the topics were read to the ends that they had at the start, and the spool is recovered."""
        self.dead_letters = DeadLetters()
        self.conservation = Conservation(self.dead_letters)
        self._changed = asyncio.Event()

    def require_complete(self) -> None:
        """Raise TransientError as long as an upload that is not known may still become known."""
        if not self.complete:
            raise TransientError("the topics are not read to their ends yet")

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change, whatever it is of."""
        return self._changed

    def commits_of(self, table: str) -> Commits:
        """The versions of `table`."""
        return self.commits.setdefault(table, Commits())

    def hidden(self, table: str, upload_id: str) -> HiddenUpload | None:
        """Why the newest version of the table does not show the upload; None where it does."""
        newest = self.commits_of(table).newest
        return None if newest is None else newest.hidden.get(upload_id)

    def on_claim(self, record: Mapping[str, Any], *, trace: Carried = ()) -> Claim:
        """Take a claim."""
        claim = Claim.from_avro(record, trace=trace)
        upload = self._upload(claim.upload.upload_id)
        upload.claim, upload.spec = claim, claim.upload
        if claim.state == "published":
            upload.published_at = upload.published_at or claim.updated_at
        upload.changed_at = self.clock.now()
        if claim.upload.repairs is not None:
            self._upload(claim.upload.repairs).repaired_by.add(claim.upload.upload_id)
        if claim.state == "final":
            self.open.discard(claim.upload.upload_id)
        elif upload.final is None:
            self.open.add(claim.upload.upload_id)
        self.notify()
        return claim

    def on_status(self, record: Mapping[str, Any]) -> None:
        """Take the status of a chunk.

        Raises RecordError for one of a dataset that there is not.
        """
        if record["dataset"] not in MARKET_DATASETS:
            raise RecordError(f"there is no dataset {record['dataset']!r}")
        upload = self._upload(record["upload_id"])
        upload.changed_at = self.clock.now()
        if not record["terminal"] and record["index"] > upload.counted:
            upload.counted = record["index"]
            self.conservation.on_status(record)
        if upload.progress is None:
            upload.progress = Progress.of(record)
        else:
            upload.progress.add(record)
        self.notify()

    def on_commit(self, record: Mapping[str, Any], version: Version) -> None:
        """Take the announcement of the version."""
        self.commits_of(version.table).add(version)
        self.conservation.on_commit(record, version, self.clock.now())
        self.notify()

    def on_redrive(self, record: Mapping[str, Any]) -> None:
        """Take the mark that dead letters were put back."""
        self.dead_letters.on_redrive(record)
        self.notify()

    def on_final(self, record: Mapping[str, Any]) -> None:
        """Take a final receipt."""
        upload = self._upload(record["upload_id"])
        upload.final = record
        # The receipt says all; the progress was what it was made from.
        upload.progress = None
        self.open.discard(record["upload_id"])
        self.notify()

    @property
    def oldest_open(self) -> datetime | None:
        """When the oldest upload came that has no final receipt; None when there is none."""
        specs = (self.uploads[upload_id].spec for upload_id in self.open)
        return min((spec.received_at for spec in specs if spec is not None), default=None)

    def _upload(self, upload_id: str) -> Upload:
        return self.uploads.setdefault(upload_id, Upload())

    def notify(self) -> None:
        """Tell who waits for `changed`."""
        self._changed.set()
        self._changed = asyncio.Event()


async def follow(
    tracker: Tracker,
    *,
    settings: KafkaSettings,
    registry: SchemaRegistry,
    on_claim: Callable[[Claim], None],
    files: Files,
    blocking: Blocking,
    undecodable: UndecodableMessages,
) -> list[Follower]:
    """Followers that feed the tracker; each claim is handed to `on_claim` as well.

    `files` are for what versions hide, and are read in a thread of `blocking`. Messages that cannot be
    decoded go to `undecodable`.
    """

    async def claimed(record: Mapping[str, Any], trace: Carried) -> None:
        on_claim(tracker.on_claim(record, trace=trace))

    async def committed(record: Mapping[str, Any], _: Carried) -> None:
        version = Version.from_json(record["document"], files)
        await load_hidden(version, blocking=blocking)
        tracker.on_commit(record, version)

    takers: Iterable[tuple[Topic, Take]] = (
        (UPLOADS.topic, _plain(tracker.on_final)),
        (CLAIMS, claimed),
        (STATUS, _plain(tracker.on_status)),
        (COMMITS, committed),
        (REDRIVES, _plain(tracker.on_redrive)),
    )
    return [
        tracker.dead_letters.follower(settings, changed=tracker.notify, undecodable=undecodable),
        *[
            _follower(settings, topic, await MessageCodec.open(registry, topic), take, undecodable)
            for topic, take in takers
        ],
    ]


def _plain(on_record: Callable[[Mapping[str, Any]], None]) -> Take:
    async def take(record: Mapping[str, Any], _: Carried) -> None:
        on_record(record)

    return take


def _follower(
    settings: KafkaSettings,
    topic: Topic,
    codec: MessageCodec,
    take: Take,
    undecodable: UndecodableMessages,
) -> Follower:
    async def on_record(record: Any) -> None:
        await take(await codec.decode(record.value), carried(record.headers))

    return Follower(settings, topic, on_record=on_record, undecodable=undecodable)
