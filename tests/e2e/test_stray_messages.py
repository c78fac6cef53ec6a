"""Messages that nobody of the fleet wrote, in every topic: counted, kept, passed; all services go on."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import (
    CHUNKS,
    CLAIMS,
    COMMANDS,
    COMMITS,
    CONTROL_TOPICS,
    POSITIONS,
    REDRIVES,
    SESSIONS,
    STATUS,
    UPLOADS,
    Topic,
    dead_letter_topic,
)
from k2common.settings.registry import RegistrySettings
from k2local.fleet import SERVICES
from k2local.testing import Fleet, running_fleet

from tests.e2e.conftest import GIVEN, ROOT
from tests.e2e.files import file_of, found, trades, unique_symbol

TOPICS = (*CONTROL_TOPICS, COMMITS, UPLOADS.topic)
LIMIT_SECONDS = 60
READY_SECONDS = 240
KINDS = 6
SKIPPED_BY: Mapping[str, Sequence[Topic]] = {
    "ingest-gateway": (CLAIMS, STATUS, COMMITS, UPLOADS.topic, REDRIVES),
    "csv-loader": (CHUNKS, POSITIONS),
    "iceberg-sink": (STATUS, COMMANDS),
    "query-service": (COMMITS,),
    "replay-service": (SESSIONS, COMMITS),
}
"""Which service reads which topics message by message."""


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of its own: what is written here stays in its topics."""
    if GIVEN in os.environ:
        pytest.skip("strays are for a fleet that nobody else uses")
    cache = Path(os.environ.get("K2_CACHE", ROOT / ".k2" / "cache")).resolve()
    with running_fleet(tmp_path_factory.mktemp("strays"), cache) as running:
        yield running


async def strays_of(registry: SchemaRegistry, topic: Topic) -> list[bytes | None]:
    """One of each kind."""
    foreign = {
        "type": "record",
        "name": "Stranger",
        "fields": [{"name": "a", "type": {"type": "array", "items": "string"}}],
    }
    foreign_id = await registry.ensure("somebody.else-value", foreign)
    other = await registry.ensure(
        dead_letter_topic(topic).name, {"type": "record", "name": "Elsewhere", "fields": []}
    )
    strays = [
        None,
        b"no record",
        b"\x00\x7f\xff\xff\xff garbage of a schema that there is not",
        b"\x00\xff\xff\xff\xff garbage of a schema that there cannot be",
        MessageCodec(registry, schema=foreign, schema_id=foreign_id).encode({"a": ["b"]}),
        b"\x00" + other.to_bytes(4, "big"),
    ]
    assert len(strays) == KINDS
    if topic == SESSIONS:
        strays.remove(None)  # a tombstone there: the session was deleted
    # One that decodes and means nothing, where that can be told.
    if (nonsense := _nonsense(topic)) is not None:
        strays.append((await MessageCodec.open(registry, topic)).encode(nonsense))
    return strays


def _nonsense(topic: Topic) -> Mapping[str, object] | None:
    now = datetime.now(UTC)
    known: Mapping[str, Mapping[str, object]] = {
        COMMITS.name: {
            "table": "no.table",
            "number": 1,
            "committed_at": now,
            "snapshot_id": 1,
            "metadata_location": "nowhere",
            "document": "{}",
        },
        COMMANDS.name: {"upload_id": "X", "kind": "fly", "issued_at": now, "arguments": {}},
        POSITIONS.name: {"partition": 77, "offset": 0, "attempts": 0},
        STATUS.name: {
            "upload_id": "X",
            "dataset": "weather",
            "index": 0,
            "terminal": False,
            "rows_read": 0,
            "rows_accepted": 0,
            "rows_rejected": 0,
            "rows_filtered": 0,
            "errors": [],
            "outputs": [],
            "kafka_epoch": 0,
            "on_error": "skip_row",
            "processed_at": now,
        },
    }
    return known.get(topic.name)


async def scatter(fleet: Fleet) -> dict[str, int]:
    """Strays in every partition of every topic; how many by topic."""
    registry = SchemaRegistry(RegistrySettings(url=fleet.settings.registry_url))
    sent: dict[str, int] = {}
    async with AIOKafkaProducer(bootstrap_servers=fleet.settings.bootstrap_servers) as producer:
        for topic in TOPICS:
            values = await strays_of(registry, topic)
            for partition in range(topic.partitions):
                for number, value in enumerate(values):
                    key = f"stray {number}".encode()
                    await producer.send_and_wait(topic.name, value, key=key, partition=partition)
            sent[topic.name] = topic.partitions * len(values)
    return sent


def skipped(fleet: Fleet, service: str) -> dict[str, float]:
    lines = fleet.get(service, "/metrics").text.splitlines()
    values = (line.rsplit(" ", 1) for line in lines if line.startswith("k2_messages_skipped_total{"))
    return {name.split('topic="')[1].split('"')[0]: float(value) for name, value in values}


def wait_for_skipped(fleet: Fleet, service: str, sent: Mapping[str, int]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    wanted = {topic.name: float(sent[topic.name]) for topic in SKIPPED_BY[service]}
    while wanted.items() - (counted := skipped(fleet, service)).items():
        assert time.monotonic() < deadline, (service, wanted, counted)
        time.sleep(0.2)


def letters(fleet: Fleet, topic: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    after: Mapping[str, str] = {}
    while True:
        answer = fleet.get("iceberg-sink", "/v1/dead-letters", topic=topic, limit=100, **after)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        token = answer.json()["next_page_token"]
        if not token:
            return found
        after = {"page_token": token}


def wait_for_letters(fleet: Fleet, topic: str, count: int) -> list[dict[str, object]]:
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(kept := letters(fleet, topic)) < count:
        assert time.monotonic() < deadline, (topic, count, len(kept))
        time.sleep(0.5)
    return kept


def upload_is_seen(fleet: Fleet) -> None:
    symbol = unique_symbol()
    receipt = fleet.upload(file_of(trades(symbol, 300)), dataset="trades")
    assert (receipt["state"], receipt["rows"]["committed"]) == ("committed", 300), receipt
    assert len(found(fleet, symbols=symbol)) == 300


def test_strays_of_every_kind_in_every_topic_are_counted_kept_and_passed(visited: Fleet) -> None:
    upload_is_seen(visited)
    sent = asyncio.run(scatter(visited))
    for service in SERVICES:
        # The loader reads the positions at its start alone.
        here = {**sent} if service != "csv-loader" else {**sent, POSITIONS.name: 0}
        wait_for_skipped(visited, service, here)
    pids = {service: visited.pid(service) for service in SERVICES}
    upload_is_seen(visited)
    for service in SERVICES:
        assert visited.get(service, "/readyz").status_code == 200, service
    assert {service: visited.pid(service) for service in SERVICES} == pids, "a service was restarted"

    for service in SERVICES:
        visited.kill(service)
    for service in SERVICES:
        visited.wait_ready(service, seconds=READY_SECONDS)
    upload_is_seen(visited)
    for topic in TOPICS:
        if topic in (POSITIONS, REDRIVES):
            continue
        # An announcement that decodes is a row of ingest.versions, whatever its document says.
        count = sent[topic.name] - (topic is COMMITS)
        kept = wait_for_letters(visited, topic.name, count)
        positions = {(letter["partition"], letter["offset"]) for letter in kept}
        # However often a stray was met and its letter written, it is one.
        assert (len(kept), len(positions)) == (count, count)
    assert not visited.data("iceberg-sink", "/v1/dead-letters", topic="market.trades.v1")


def test_the_letter_of_a_control_topic_is_not_put_back(visited: Fleet) -> None:
    (letter, *_) = letters(visited, STATUS.name)
    assert "ingest.status.v1 partition" in str(letter["reason"])
    place = {"partition": letter["partition"], "offset": letter["offset"]}
    body = {"topic": STATUS.name, "offsets": [place]}
    answer = visited.call("POST", "iceberg-sink", "/v1/dead-letters/redrive", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["counts"]["control_topic"] == 1
