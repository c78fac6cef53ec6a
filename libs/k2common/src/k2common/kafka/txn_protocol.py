"""Requests about transactions that aiokafka does not have (KIP-664).

https://kafka.apache.org/protocol: DescribeProducers (61), DescribeTransactions (65), WriteTxnMarkers (27).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

TAGS = ("tags", TaggedFields)
NO_TAGS: dict[int, bytes] = {}
PARTITION_LISTS = CompactArray(
    ("name", CompactString("utf-8")), ("partition_indexes", CompactArray(Int32)), TAGS
)


class DescribeTransactionsResponse_v0(Response):  # type: ignore[misc] # noqa: N801 - named as in aiokafka
    """The coordinator's state of transactional ids."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transaction_states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("transaction_state", CompactString("utf-8")),
                ("transaction_timeout_ms", Int32),
                ("transaction_start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), TAGS
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeTransactionsRequest_v0(RequestStruct):  # type: ignore[misc] # noqa: N801
    """Asks for them."""

    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), TAGS)


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):  # type: ignore[misc]
    """Asks the coordinator for the state of transactional ids."""

    API_KEY = 65

    def __init__(self, transactional_ids: Sequence[str]) -> None:
        self._ids = transactional_ids

    def build(self, request_struct_class: Any) -> Any:
        """The request of the negotiated version."""
        return request_struct_class(self._ids, NO_TAGS)


class DescribeProducersResponse_v0(Response):  # type: ignore[misc] # noqa: N801
    """The producers that partitions know, with the start of each one's open transaction or -1."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition_index", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "active_producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("current_txn_start_offset", Int64),
                                TAGS,
                            ),
                        ),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeProducersRequest_v0(RequestStruct):  # type: ignore[misc] # noqa: N801
    """Asks for them."""

    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = DescribeProducersResponse_v0
    SCHEMA = Schema(("topics", PARTITION_LISTS), TAGS)


class DescribeProducersRequest(Request[DescribeProducersRequest_v0]):  # type: ignore[misc]
    """Asks a leader for the producers of its partitions."""

    API_KEY = 61

    def __init__(self, topics: Sequence[tuple[str, Sequence[int]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """The request of the negotiated version."""
        return request_struct_class([(name, list(found), NO_TAGS) for name, found in self._topics], NO_TAGS)


class WriteTxnMarkersResponse_v1(Response):  # type: ignore[misc] # noqa: N801
    """Error codes by producer, topic and partition."""

    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("name", CompactString("utf-8")),
                        (
                            "partitions",
                            CompactArray(("partition_index", Int32), ("error_code", Int16), TAGS),
                        ),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class WriteTxnMarkersRequest_v1(RequestStruct):  # type: ignore[misc] # noqa: N801
    """Ends transactions in partitions."""

    FLEXIBLE_VERSION = True
    API_KEY = 27
    API_VERSION = 1
    RESPONSE_TYPE = WriteTxnMarkersResponse_v1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("transaction_result", Boolean),
                ("topics", PARTITION_LISTS),
                ("coordinator_epoch", Int32),
                TAGS,
            ),
        ),
        TAGS,
    )


class WriteTxnMarkersRequest(Request[WriteTxnMarkersRequest_v1]):  # type: ignore[misc]
    """Ends the transaction of a producer in one partition of a leader."""

    API_KEY = 27

    def __init__(
        self,
        *,
        producer_id: int,
        producer_epoch: int,
        commit: bool,
        topic: str,
        partition: int,
        coordinator_epoch: int,
    ) -> None:
        topics = [(topic, [partition], NO_TAGS)]
        self._marker = (producer_id, producer_epoch, commit, topics, coordinator_epoch, NO_TAGS)

    def build(self, request_struct_class: Any) -> Any:
        """The request of the negotiated version."""
        return request_struct_class([self._marker], NO_TAGS)
