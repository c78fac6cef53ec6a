"""Our choice of partition is the one of Kafka's clients."""

from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.partition import murmur2, partition_of


@given(key=st.binary(max_size=40))
def test_the_hash_is_the_clients(key: bytes) -> None:
    assert murmur2(key) == reference(key) & 0xFFFFFFFF


def test_known_partitions_stay() -> None:
    keys = (b"ASX:BHP", b"ASX:DVN", b"BINANCE:BTCUSDT")
    assert [partition_of(key, 12) for key in keys] == [9, 11, 0]
