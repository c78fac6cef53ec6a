"""Sessions lie in Kafka, so that any replica can stream any of them after any restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from k2common.errors import TransientError
from k2common.http.problems import Problem
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import SESSIONS
from k2common.settings.kafka import KafkaSettings

REMOVED_AT_ONCE = 100
RETRY_SECONDS = "60"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The Avro record Session: a request on one version."""

    session_id: str
    state: str
    request: str
    version: str
    created_at: datetime
    updated_at: datetime
    rows: int = 0
    digest: str = ""
    caller: str = ""
    """Who created it; unknown for sessions of older releases."""


class Sessions:
    """All sessions of the topic, and none older than `age`.

    At most `most` exist, and at most `most_per_caller` of one key or address.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        replica: str,
        clock: Clock,
        most: int,
        most_per_caller: int,
        age: timedelta,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._replica = replica
        self._clock = clock
        self._most = most
        self._most_per_caller = most_per_caller
        self._age = age
        self._lock = asyncio.Lock()
        self._known: dict[str, Session] = {}
        self._creating: dict[str, Session] = {}
        """Sessions that are being written; they have their places already."""
        self.follower = Follower(settings, SESSIONS, on_record=self._take, undecodable=undecodable)

    async def create(self, session: Session) -> None:
        """Create the session, and remove the oldest of those that have expired from the topic.

        Raises Problem 429 when there are as many as may be, of all or of this caller, TransientError when
        Kafka is unavailable.
        """
        expired = [known for known in self._known if not self._is_live(known)]
        removed = dict.fromkeys(sorted(expired)[:REMOVED_AT_ONCE])
        with self._place_of(session):
            await self._write({session.session_id: self._codec.encode(asdict(session)), **removed})
            self._known[session.session_id] = session

    @contextmanager
    def _place_of(self, session: Session) -> Iterator[None]:
        """Hold the place of a session while it is written. Raises Problem 429 where none is left."""
        live = {known: one for known, one in self._known.items() if self._is_live(known)} | self._creating
        if len(live) >= self._most:
            raise _too_many(f"there are {self._most} replays; delete some")
        of_caller = sum(one.caller == session.caller for one in live.values())
        if of_caller >= self._most_per_caller:
            raise _too_many(f"this caller has {of_caller} replays; delete some")
        self._creating[session.session_id] = session
        try:
            yield
        finally:
            del self._creating[session.session_id]

    async def delete(self, session_id: str) -> None:
        """Remove the session.

        Raises Problem 404, TransientError when Kafka is unavailable.
        """
        await self._write({self.get(session_id).session_id: None})

    async def _write(self, values: Mapping[str, bytes | None]) -> None:
        # The answer names the session for good: a committed read shows it first.
        seconds = self._settings.request_timeout_seconds
        async with (
            self._lock,
            TransactionalProducer(self._settings, f"replay-service-{self._replica}") as producer,
            producer.transaction(read_back_seconds=seconds) as work,
        ):
            for session_id, value in values.items():
                await work.send(SESSIONS.name, key=session_id.encode(), value=value)
        for session_id in (known for known, value in values.items() if value is None):
            self._known.pop(session_id, None)

    def get(self, session_id: str) -> Session:
        """One session.

        Raises Problem 404, TransientError while the topic may still hold it.
        """
        session = self._known.get(session_id)
        if session is None:
            self._require_caught_up()
        if session is None or not self._is_live(session_id):
            raise Problem(HTTPStatus.NOT_FOUND, "REPLAY_NOT_FOUND", f"there is no replay {session_id}")
        return session

    def list(self) -> Sequence[Session]:
        """All sessions, newest first.

        Raises TransientError until the topic was read to its end.
        """
        self._require_caught_up()
        known = (session for session_id, session in self._known.items() if self._is_live(session_id))
        return sorted(known, key=lambda session: session.session_id, reverse=True)

    def _is_live(self, session_id: str) -> bool:
        return self._clock.now() - self._known[session_id].created_at < self._age

    def _require_caught_up(self) -> None:
        if not self.follower.caught_up.is_set():
            raise TransientError("the sessions are not read to their end yet")

    async def _take(self, record: Any) -> None:
        if record.value is None:
            self._known.pop((record.key or b"").decode(errors="replace"), None)
            return
        session = Session(**await self._codec.decode(record.value))
        if session.state == "deleted":
            # So older releases removed one.
            self._known.pop(session.session_id, None)
            return
        self._known[session.session_id] = session


def _too_many(message: str) -> Problem:
    headers = {"Retry-After": RETRY_SECONDS}
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "TOO_MANY_REPLAYS", message, headers=headers)
