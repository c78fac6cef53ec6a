"""Whatever is raised about a message is its own fault, unless it says that something is unavailable."""

import asyncio
from types import SimpleNamespace
from typing import Any

import k2common.kafka.boundary as module
import pytest
from k2common.errors import Fenced, RecordError, SetupError, TransientError
from k2common.kafka.boundary import UndecodableMessages, decode_boundary
from k2common.settings.kafka import KafkaSettings

SETTINGS = KafkaSettings(bootstrap_servers="nowhere:1", epoch=3)
TOPIC = "ingest.status.v1"


def record(offset: int, value: bytes | None = b"\x00\x00\x00\x00\x07x", topic: str = TOPIC) -> Any:
    return SimpleNamespace(topic=topic, partition=1, offset=offset, key=b"k", value=value)


@pytest.mark.parametrize(
    "raised", [KeyError("x"), OverflowError("x"), RecursionError("x"), ZeroDivisionError(), RecordError("x")]
)
def test_what_is_raised_about_a_message_names_its_place(raised: Exception) -> None:
    with (
        pytest.raises(RecordError, match=r"ingest\.status\.v1 partition 1 offset 9: "),
        decode_boundary(record(9)),
    ):
        raise raised


@pytest.mark.parametrize(
    "raised", [TransientError("x"), Fenced("x"), SetupError("x"), TimeoutError(), ConnectionError()]
)
def test_what_says_nothing_of_a_message_goes_on(raised: Exception) -> None:
    with pytest.raises(type(raised)), decode_boundary(record(9)):
        raise raised


class Producer:
    """Takes what is sent once it is let."""

    available = True
    written: list[tuple[str, int]] = []  # noqa: RUF012 - one for all, as a broker is

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        pass

    async def __aenter__(self) -> "Producer":
        if not self.available:
            raise TransientError("Kafka is unavailable")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def transaction(self, *, read_back_seconds: float) -> "Producer":
        assert read_back_seconds > 0
        return self

    async def send(self, topic: str, *, headers: Any, **_: Any) -> None:
        self.written.append((topic, int(dict(headers)["k2-offset"])))


def test_messages_are_counted_and_kept_until_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TransactionalProducer", Producer)
    monkeypatch.setattr(Producer, "written", [])
    monkeypatch.setattr(Producer, "available", False)
    counted: list[str] = []
    undecodable = UndecodableMessages(SETTINGS, owner="test", keeps={TOPIC}, count=counted.append)
    undecodable.skip(record(1), RecordError("x"))
    undecodable.skip(record(2, topic="iceberg.commits.v1"), RecordError("kept by another service"))
    with pytest.raises(TransientError):
        asyncio.run(undecodable.keep())
    # Its reader begins again and meets it again.
    undecodable.skip(record(1), RecordError("x"))
    undecodable.skip(record(3, None), RecordError("x"))
    monkeypatch.setattr(Producer, "available", True)
    asyncio.run(undecodable.keep())
    asyncio.run(undecodable.keep())
    assert Producer.written == [(f"{TOPIC}.dlq", 1), (f"{TOPIC}.dlq", 3)]
    assert counted == [TOPIC, "iceberg.commits.v1", TOPIC, TOPIC]


def test_a_message_that_is_too_large_is_kept_without_its_bytes() -> None:
    undecodable = UndecodableMessages(SETTINGS, owner="test", keeps={TOPIC}, count=lambda _: None)
    letter = undecodable._letter(record(1, b"x" * SETTINGS.max_request_bytes), RecordError("no record"))  # noqa: SLF001
    assert (letter.value, letter.epoch, letter.reason) == (
        None,
        3,
        "too large to be kept with its bytes; no record",
    )
