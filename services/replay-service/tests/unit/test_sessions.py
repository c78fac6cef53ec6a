"""A session that the topic may still hold is not said to be missing."""

from datetime import timedelta
from typing import Any

import pytest
from k2common.errors import TransientError
from k2common.http.problems import Problem
from k2common.runtime.clock import SystemClock
from k2common.settings.kafka import KafkaSettings
from replay_service.sessions import Sessions


@pytest.fixture
def sessions() -> Sessions:
    codec: Any = None
    return Sessions(
        KafkaSettings(bootstrap_servers="127.0.0.1:1"),
        codec=codec,
        replica="r",
        clock=SystemClock(),
        most=1,
        most_per_caller=1,
        age=timedelta(days=1),
    )


def test_until_the_topic_was_read_an_unknown_session_is_503(sessions: Sessions) -> None:
    with pytest.raises(TransientError):
        sessions.get("unknown")
    with pytest.raises(TransientError):
        sessions.list()


def test_after_that_it_is_404(sessions: Sessions) -> None:
    sessions.follower.caught_up.set()
    with pytest.raises(Problem) as caught:
        sessions.get("unknown")
    assert caught.value.status == 404
    assert sessions.list() == []
