"""The partition of a key, as Kafka's own clients choose it."""

from __future__ import annotations

MASK = 0xFFFFFFFF
MULTIPLIER = 0x5BD1E995
SEED = 0x9747B28C


def murmur2(key: bytes) -> int:
    """MurmurHash2 of 32 bits with the seed of Kafka's Java client (`Utils.murmur2`), unsigned."""
    state = SEED ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        word = (int.from_bytes(key[start : start + 4], "little") * MULTIPLIER) & MASK
        word = ((word ^ (word >> 24)) * MULTIPLIER) & MASK
        state = ((state * MULTIPLIER) & MASK) ^ word
    if tail := key[whole:]:
        state = ((state ^ int.from_bytes(tail, "little")) * MULTIPLIER) & MASK
    state = ((state ^ (state >> 13)) * MULTIPLIER) & MASK
    return state ^ (state >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`, as the default partitioner of the Java client gives it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
