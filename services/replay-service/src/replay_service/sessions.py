"""Sessions lie in Kafka, so that any replica can stream any of them after any restart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from k2common.http.problems import Problem
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.follower import Follower
from k2common.kafka.producer import TransactionalProducer
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import SESSIONS
from k2common.settings.kafka import KafkaSettings


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


class Sessions:
    """All sessions as the topic tells them."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        codec: MessageCodec,
        replica: str,
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._replica = replica
        self._lock = asyncio.Lock()
        self._known: dict[str, Session] = {}
        self.follower = Follower(settings, SESSIONS, on_record=self._take, undecodable=undecodable)

    async def write(self, session: Session) -> None:
        """Create the session or change it.

        Raises TransientError when Kafka is away.
        """
        async with (
            self._lock,
            TransactionalProducer(self._settings, f"replay-service-{self._replica}") as producer,
            producer.transaction() as work,
        ):
            value = self._codec.encode(asdict(session))
            await work.send(SESSIONS.name, key=session.session_id.encode(), value=value)
        self._known[session.session_id] = session

    def get(self, session_id: str) -> Session:
        """One session.

        Raises Problem 404.
        """
        session = self._known.get(session_id)
        if session is None or session.state == "deleted":
            raise Problem(HTTPStatus.NOT_FOUND, "REPLAY_NOT_FOUND", f"there is no replay {session_id}")
        return session

    def list(self) -> Sequence[Session]:
        """All sessions, newest first."""
        known = (session for session in self._known.values() if session.state != "deleted")
        return sorted(known, key=lambda session: session.session_id, reverse=True)

    async def _take(self, record: Any) -> None:
        session = Session(**await self._codec.decode(record.value))
        self._known[session.session_id] = session
