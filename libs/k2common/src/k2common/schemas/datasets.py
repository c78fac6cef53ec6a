"""Every topic, subject and table, one row each; provisioning and all services read this table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

DAY_MS = 86_400_000
CLAIM_PARTITIONS = 32
CHUNK_PARTITIONS = 4
BULK_CHUNK_PARTITIONS = (2, 3)
"""Partitions of ingest.chunks for large uploads, so that small ones never wait behind them."""


@cache
def avro_schema(name: str) -> Mapping[str, Any]:
    """The Avro schema `name`, as parsed JSON."""
    text = resources.files("k2common.schemas").joinpath("avro", f"{name}.avsc").read_text("utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A Kafka topic and the subject of its values; `retention_ms` of None keeps records for ever.

    Values of a topic that is not `framed` are of no schema, and it has no subject.
    """

    name: str
    schema: str
    partitions: int
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int | None = 7 * DAY_MS
    config: Mapping[str, str] = field(default_factory=dict)
    framed: bool = True

    @property
    def subject(self) -> str:
        return f"{self.name}-value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Records of one topic, or of several with one partition each, that the sink writes to one table.

    `key` names the columns of the message key, joined by a colon. `order` is the sort inside a data file.
    `partition_by` is the timestamp column whose day partitions the table. A table with `visibility` shows an
    upload whole or not at all; the `ingest.*` tables have no such rule.
    """

    name: str
    topic: Topic
    table: str
    key: tuple[str, ...]
    order: tuple[str, ...]
    partition_by: str | None
    visibility: bool
    versioned: bool = True
    more_topics: tuple[Topic, ...] = ()

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics; a table of several counts them as its partitions, so new ones come last."""
        return (self.topic, *self.more_topics)

    @property
    def places(self) -> Mapping[tuple[str, int], int]:
        """Each topic's partitions, and the numbers under which the table knows them."""
        if self.more_topics:
            return {(topic.name, 0): number for number, topic in enumerate(self.topics)}
        return {(self.topic.name, partition): partition for partition in range(self.topic.partitions)}

    @property
    def schema(self) -> str:
        return self.topic.schema


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTable:
    """A table whose rows the sink makes itself: they come through no topic."""

    name: str
    table: str
    schema: str
    order: tuple[str, ...]
    partition_by: str | None = None
    visibility: bool = False
    versioned: bool = False


TICK_ORDER = ("symbol", "ts_event_ns", "sequence", "upload_id", "line")

CLAIMS = Topic(
    name="ingest.claims.v1",
    schema="claims",
    partitions=CLAIM_PARTITIONS,
    cleanup="compact",
    retention_ms=None,
)
CHUNKS = Topic(name="ingest.chunks.v1", schema="chunks", partitions=CHUNK_PARTITIONS)
STATUS = Topic(name="ingest.status.v1", schema="status", partitions=2, retention_ms=30 * DAY_MS)
COMMANDS = Topic(name="ingest.commands.v1", schema="commands", partitions=1, retention_ms=30 * DAY_MS)
POSITIONS = Topic(
    name="loader.positions.v1",
    schema="positions",
    partitions=CHUNK_PARTITIONS,
    cleanup="compact",
    retention_ms=None,
    # An emptied abort marker stops aiokafka; it must outlive the broker's producer.id.expiration.ms (24 h).
    config={"delete.retention.ms": str(2 * DAY_MS)},
)
COMMITS = Topic(name="iceberg.commits.v1", schema="commits", partitions=1, retention_ms=30 * DAY_MS)
REDRIVES = Topic(name="ingest.redrives.v1", schema="redrives", partitions=1, retention_ms=None)
SESSIONS = Topic(
    name="replay.sessions.v1", schema="sessions", partitions=1, cleanup="compact", retention_ms=None
)

TRADES = Dataset(
    name="trades",
    topic=Topic(name="market.trades.v1", schema="trades", partitions=2),
    table="market.trades",
    key=("venue", "symbol"),
    order=TICK_ORDER,
    partition_by="ts_event",
    visibility=True,
)
QUOTES = Dataset(
    name="quotes",
    topic=Topic(name="market.quotes.v1", schema="quotes", partitions=2),
    table="market.quotes",
    key=("venue", "symbol"),
    order=TICK_ORDER,
    partition_by="ts_event",
    visibility=True,
)
INSTRUMENTS = Dataset(
    name="instruments",
    topic=Topic(name="market.instruments.v1", schema="instruments", partitions=1),
    table="market.instruments",
    key=("venue", "symbol"),
    order=("symbol", "valid_from", "upload_id", "line"),
    partition_by=None,
    visibility=True,
)
BARS = Dataset(
    name="bars",
    topic=Topic(name="market.bars.v1", schema="bars", partitions=1),
    table="market.bars",
    key=("venue", "symbol"),
    order=("symbol", "ts_event_ns", "timeframe", "upload_id", "line"),
    partition_by="ts_event",
    visibility=True,
)
CORPORATE_ACTIONS = Dataset(
    name="corporate_actions",
    topic=Topic(name="market.corporate_actions.v1", schema="corporate_actions", partitions=1),
    table="market.corporate_actions",
    key=("venue", "symbol"),
    order=("symbol", "ex_date", "upload_id", "line"),
    partition_by=None,
    visibility=True,
)
REJECTS = Dataset(
    name="rejects",
    topic=Topic(name="ingest.rejects.v1", schema="rejects", partitions=2, retention_ms=30 * DAY_MS),
    table="ingest.rejects",
    key=("upload_id",),
    order=("upload_id", "line"),
    partition_by="ts_ingest",
    visibility=False,
)
UPLOADS = Dataset(
    name="uploads",
    topic=Topic(name="ingest.uploads.v1", schema="uploads", partitions=1, retention_ms=30 * DAY_MS),
    table="ingest.uploads",
    key=("upload_id",),
    order=("upload_id",),
    partition_by=None,
    visibility=False,
)
VERSIONS = Dataset(
    name="versions",
    topic=COMMITS,
    table="ingest.versions",
    key=("table",),
    order=("table", "number"),
    partition_by=None,
    visibility=False,
    versioned=False,
)

TAGS = OwnTable(name="tags", table="ingest.tags", schema="tags", order=("name",))
GAPS = OwnTable(
    name="gaps",
    table="market.gaps",
    schema="gaps",
    order=("symbol", "ts_event_ns", "number"),
    versioned=True,
)
OWN_TABLES: tuple[OwnTable, ...] = (TAGS, GAPS)

SUNK = (TRADES, QUOTES, BARS, INSTRUMENTS, CORPORATE_ACTIONS, REJECTS, UPLOADS, VERSIONS)
LARGEST_LETTER_BYTES = 16 * 1024 * 1024


def dead_letter_topic(topic: Topic) -> Topic:
    """Where the messages of `topic` go that are no records: their bytes as they were, the rest in headers."""
    return Topic(
        name=dead_letter_topic_name(topic.name),
        schema="dead_letters",
        partitions=1,
        retention_ms=30 * DAY_MS,
        # A message may have been packed when it came; here it is not.
        config={"max.message.bytes": str(LARGEST_LETTER_BYTES)},
        framed=False,
    )


def dead_letter_topic_name(topic: str) -> str:
    """The name of the topic for the dead letters of `topic`."""
    return f"{topic}.dlq"


CONTROL_TOPICS: tuple[Topic, ...] = (CLAIMS, CHUNKS, STATUS, COMMANDS, POSITIONS, REDRIVES, SESSIONS)
"""Topics of messages between services, which become no rows."""

REDRIVABLE: tuple[str, ...] = tuple(d.topic.name for d in SUNK)
"""The topics whose dead letters may be put back: the sink writes their messages to tables."""

DEAD_LETTER_TOPICS: tuple[Topic, ...] = tuple(
    dead_letter_topic(topic) for topic in (*(d.topic for d in SUNK), *CONTROL_TOPICS)
)
"""In the order in which the table counts them: new ones come last."""

DEAD_LETTERED: tuple[str, ...] = (*REDRIVABLE, *(topic.name for topic in CONTROL_TOPICS))
"""The topics whose messages may become dead letters."""

DEAD_LETTERS = Dataset(
    name="dead_letters",
    topic=DEAD_LETTER_TOPICS[0],
    more_topics=DEAD_LETTER_TOPICS[1:],
    table="ingest.dead_letters",
    key=(),
    order=("topic", "topic_epoch", "topic_partition", "topic_offset"),
    partition_by=None,
    visibility=False,
)

DATASETS: Mapping[str, Dataset] = {d.name: d for d in (*SUNK, DEAD_LETTERS)}
TABLES: Mapping[str, Dataset | OwnTable] = {
    **{dataset.table: dataset for dataset in DATASETS.values()},
    **{own.table: own for own in OWN_TABLES},
}
MARKET_DATASETS: Mapping[str, Dataset] = {n: d for n, d in DATASETS.items() if d.visibility}
TOPICS: tuple[Topic, ...] = (
    *CONTROL_TOPICS,
    *(topic for d in DATASETS.values() for topic in d.topics),
)
VERSIONED_TABLES: tuple[str, ...] = tuple(table for table, found in TABLES.items() if found.versioned)
"""Tables whose versions are announced and can be asked for."""
