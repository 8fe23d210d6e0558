"""Identifiers that are computed from content, so that the same input always gives the same ids.

Belongs here: UUIDs of version 7 whose random bits are a hash. Does not belong here: ids of live work (`contracts.ids`).
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CATALOG_TIME = datetime(2010, 1, 1, tzinfo=UTC)
"""The time part of an id for objects without a time, e.g. products."""


def content_id(at: datetime, *parts: str) -> uuid.UUID:
    """Return a UUID of version 7 from the time (milliseconds) and a SHA-256 of `parts`."""
    milliseconds = (at - EPOCH) // timedelta(milliseconds=1)
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    random_bits = int.from_bytes(digest[:10], "big") >> 6
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    return uuid.UUID(int=value)
