"""The checksum of a log entry, computed a second time from its description.

Belongs here: that one function, written row by row instead of over Arrow's buffers as the publisher does it. Does not
belong here: what is compared with it.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from contracts.events.envelope import ENVELOPE_COLUMNS

STORED_COLUMNS = tuple(name for name in ENVELOPE_COLUMNS if name not in ("pod", "epoch", "cut", "partition"))
"""What an entry holds; the rest is implied by where it stands."""

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def entry_checksum(events: pa.Table, place: str) -> str:
    """Return the SHA-256 (hex) of an entry at `place` (``<pod>/<epoch>/<partition>/<cut>/<chunk>``).

    Place and number of rows, then column by column: name, number of nulls, if there are any one byte per row that says
    which; then the values. Text: all lengths as 32-bit little-endian integers, all texts as UTF-8, null as empty.
    Numbers and moments (microseconds since 1970): 64-bit little-endian integers, null as 0.
    """
    digest = hashlib.sha256(f"{place}:{events.num_rows}".encode())
    for name in STORED_COLUMNS:
        values = events.column(name).to_pylist()
        nulls = [value is None for value in values]
        digest.update(f"|{name}:{sum(nulls)}|".encode())
        if any(nulls):
            digest.update(bytes(nulls))
        is_text = pa.types.is_string(events.schema.field(name).type)
        digest.update(_texts(values) if is_text else _numbers(values))
    return digest.hexdigest()


def _texts(values: list[Any]) -> bytes:
    texts = [(value or "").encode() for value in values]
    return struct.pack(f"<{len(texts)}i", *map(len, texts)) + b"".join(texts)


def _numbers(values: list[Any]) -> bytes:
    return struct.pack(f"<{len(values)}q", *map(_number, values))


def _number(value: Any) -> int:
    if value is None:
        return 0
    return (value - EPOCH_START) // MICROSECOND if isinstance(value, datetime) else int(value)
