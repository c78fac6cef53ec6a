"""A replay session that was answered exists, and a deleted one does not, whatever the broker rolls back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from k2common.errors import TransientError
from k2common.kafka.positions import all_records
from k2common.provision import ProvisionSettings, provision
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.runtime.clock import SystemClock
from k2common.schemas.datasets import SESSIONS
from k2common.settings.load import load
from k2common.testing.kafka_proxy import END_TXN_ACCEPTED, ApiKey, Fault, KafkaProxy
from k2local.fleet import environment
from k2local.stack import LocalStack
from replay_service.sessions import Session, Sessions
from ulid import ULID


@pytest.fixture
async def sessions(stack: LocalStack, proxy: KafkaProxy, tmp_path: Path) -> Sessions:
    settings = load(ProvisionSettings, environment(stack.settings.model_copy(update={"home": tmp_path})))
    await provision(settings)
    changes = {"bootstrap_servers": proxy.bootstrap_servers, "request_timeout_seconds": 1.0}
    return Sessions(
        settings.kafka.model_copy(update=changes),
        codec=await MessageCodec.open(SchemaRegistry(settings.registry), SESSIONS),
        replica=str(ULID()),
        clock=SystemClock(),
        most=10,
        most_per_caller=10,
        age=timedelta(days=1),
    )


async def stored(stack: LocalStack, session_id: str) -> list[bool]:
    """Of each committed record of the session, whether it holds one."""
    settings = load(ProvisionSettings, environment(stack.settings)).kafka
    found = [
        record
        for partition in range(SESSIONS.partitions)
        for record in await all_records(settings, SESSIONS.name, partition)
    ]
    return [record.value is not None for record in found if record.key == session_id.encode()]


async def test_a_session_is_created_and_deleted_only_where_a_committed_read_shows_it(
    stack: LocalStack, proxy: KafkaProxy, sessions: Sessions
) -> None:
    now = datetime.now(UTC)
    session = Session(
        session_id=str(ULID()), state="open", request="{}", version="", created_at=now, updated_at=now
    )
    proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=END_TXN_ACCEPTED)
    with pytest.raises(TransientError):
        await sessions.create(session)
    with pytest.raises(TransientError):
        sessions.get(session.session_id)
    await sessions.create(session)
    assert await stored(stack, session.session_id) == [True]

    proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=END_TXN_ACCEPTED)
    with pytest.raises(TransientError):
        await sessions.delete(session.session_id)
    assert sessions.get(session.session_id) == session
    await sessions.delete(session.session_id)
    assert await stored(stack, session.session_id) == [True, False]
