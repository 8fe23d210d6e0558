"""Identifiers: UUIDv7, the merchant-scoped aggregate key, and the partition it falls into.

Belongs here: how ids and keys are made, and the partition of a key. Does not belong here: what they identify.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from contracts.errors import InputError
from contracts.text import visible

NewId = Callable[[], uuid.UUID]

PARTITION_FUNCTION = "md5-32-mod"
"""Name stored with every cut: a relay refuses to recompute a cut with another function."""

PARTITION_SQL = (
    "mod(('x' || substr(md5(merchant_id || '/' || aggregate_type || '/' || aggregate_id), 1, 8))"
    "::bit(32)::bigint, %(partition_count)s)::integer"
)
"""PostgreSQL expression that equals `partition_of`; `%(partition_count)s` is bound. A test compares the two."""


def uuid7() -> uuid.UUID:
    """Return a new UUID version 7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = secrets.randbits(74)
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    return uuid.UUID(int=value)


def aggregate_key(merchant_id: str, aggregate_type: str, aggregate_id: str) -> str:
    """Return the merchant-scoped key by which an aggregate is ordered, partitioned and rebuilt."""
    return f"{merchant_id}/{aggregate_type}/{aggregate_id}"


def key_of_row(row: Mapping[str, Any]) -> str:
    """Return the aggregate key of an event given as its envelope columns."""
    return aggregate_key(row["merchant_id"], row["aggregate_type"], row["aggregate_id"])


def parts_of_key(key: str) -> tuple[str, str, str]:
    """Return (merchant, type, id) of an aggregate key that a user wrote; InputError when it is not such a key."""
    parts = key.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{visible(key)!r} is no key of an aggregate; write it as merchant/type/id.")
    return parts[0], parts[1], parts[2]


def partition_of(key: str, partition_count: int) -> int:
    """Return the partition (0 .. partition_count - 1) of an aggregate key: first 32 bits of its MD5, modulo."""
    digest = hashlib.md5(key.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") % partition_count
