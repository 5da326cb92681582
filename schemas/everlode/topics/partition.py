"""Kafka's default partitioner, so that a key has one partition for every client.

Source: org.apache.kafka.common.utils.Utils.murmur2 (Austin Appleby's MurmurHash2, seed
0x9747b28c); librdkafka calls it `murmur2_random`. Pure.
"""

from __future__ import annotations

from functools import lru_cache

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit MurmurHash2 of `data` with Kafka's seed."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    tail = data[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Partition of a key, as Java's and aiokafka's default partitioners give it."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
