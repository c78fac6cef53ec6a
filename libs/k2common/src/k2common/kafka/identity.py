"""Which cluster and which topics these are: a topic that is deleted and made again has another id.

Ids of topics came with version 10 of the Metadata request (KIP-516); the library stops at 5. So its last
version before another field was added, 12, is described here.
https://kafka.apache.org/protocol#The_Messages_Metadata
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from k2common.errors import SetupError, TransientError
from k2common.kafka.bounded_close import close_within
from k2common.settings.kafka import KafkaSettings

UUID_BYTES = 16
NO_ID = bytes(UUID_BYTES)
TAGS = ("tags", TaggedFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The cluster's id, and the id of each topic that there is, as Kafka's tools print them."""

    cluster: str
    topics: Mapping[str, str]


class _Uuid(AbstractType[bytes]):  # type: ignore[misc] # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(UUID_BYTES)


class _MetadataResponse(Response):  # type: ignore[misc] # aiokafka has no types
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                TAGS,
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        TAGS,
                    ),
                ),
                ("operations", Int32),
                TAGS,
            ),
        ),
        TAGS,
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc] # aiokafka has no types
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        TAGS,
    )


class _MetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc] # aiokafka has no types
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(NO_ID, name, {}) for name in self._topics], False, False, {})


async def identify(settings: KafkaSettings, topics: Sequence[str]) -> Identity:
    """The cluster's id and those of the topics; one that is not there, or has no id, is left out.

    Raises TransientError when Kafka is unavailable, SetupError when it is too old to know ids of topics.
    """
    client = AIOKafkaClient(
        bootstrap_servers=settings.bootstrap_servers,
        request_timeout_ms=int(settings.request_timeout_seconds * 1000),
    )
    try:
        await client.bootstrap()
        answer = await client.send(client.get_random_node(), _MetadataRequest(topics))
    except KafkaError as error:
        raise TransientError(f"Kafka at {settings.bootstrap_servers}: {error}") from error
    # aiokafka's word for a broker that lacks this version of the request.
    except NotImplementedError as error:
        raise SetupError(f"Kafka at {settings.bootstrap_servers} is older than 3.1: {error}") from error
    finally:
        await close_within(client.close(), settings.request_timeout_seconds)
    found = {name: topic_id for code, name, topic_id, *_ in answer.topics if not code and topic_id != NO_ID}
    return Identity(
        cluster=answer.cluster_id or "",
        topics={
            name: base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode() for name, topic_id in found.items()
        },
    )
