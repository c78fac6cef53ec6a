"""EndTxn is sent once per transaction; without the broker's consent the producer fails.

aiokafka repeats EndTxn after a lost connection, in the same epoch, and reports nothing. The first request may
still be on its way; it then ends the next transaction while that is open (KAFKA-17754; clients of transaction
protocol 1 have no epoch per transaction). Of the other requests none can do so: the broker sorts out a late
Produce by its sequence number, a late InitProducerId aborts as a whole, and a late AddPartitionsToTxn only
names partitions. TxnOffsetCommit could, and is not used.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.producer import sender as sending
from aiokafka.producer.transaction_manager import TransactionManager

PRIVATE = (
    (AIOKafkaProducer, "__init__", "_sender"),
    (sending.Sender, "__init__", "_txn_manager"),
    (sending.Sender, "_do_txn_commit", "EndTxnHandler"),
    (sending.Sender, "_maybe_do_transactional_request", "_do_txn_commit"),
    (sending.BaseHandler, "__init__", "_sender"),
    (sending.BaseHandler, "do", "create_request"),
    (sending.EndTxnHandler, "handle_response", "complete_transaction"),
    (TransactionManager, "fatal_error", "_transaction_waiter"),
)
"""Class, method, and a name that the method's code uses."""


class _EndTxnOnce(sending.EndTxnHandler):  # type: ignore[misc] # aiokafka has no types
    """Sends EndTxn once, in the place of aiokafka's handler that repeats it."""

    async def do(self, node_id: int) -> bool:
        """Return True: the transaction ended, or the producer failed."""
        try:
            answer = await self._sender.client.send(node_id, self.create_request(), group=self.group)
            # A back-off is the library's word for "send it again".
            if self.handle_response(answer) is not None:
                self._fail(f"refused with error {answer.error_code}")
        except ProducerFenced:
            raise
        except KafkaError as error:
            self._fail(f"{type(error).__name__} {error}")
        return True

    def _fail(self, reason: str) -> None:
        self._sender._txn_manager.fatal_error(KafkaError(f"outcome of EndTxn unknown: {reason}"))  # noqa: SLF001


def send_end_txn_once(producer: AIOKafkaProducer) -> None:
    """Make `commit_transaction` of the producer raise KafkaError when EndTxn is not answered with consent."""
    sender: Any = producer._sender  # noqa: SLF001
    original: Any = sending.Sender._do_txn_commit  # noqa: SLF001
    names = {**vars(sending), "EndTxnHandler": _EndTxnOnce}
    commit = FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    sender._do_txn_commit = MethodType(commit, sender)  # noqa: SLF001
