"""The checksum of a log entry: a second implementation, written from its specification.

Belongs here: that function. It goes through rows, while the publisher's implementation uses Arrow's buffers. Does not
belong here: what the checksum is compared with.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from contracts.events.envelope import ENVELOPE_COLUMNS, FIRST_DIRECTORY_EPOCH

STORED_COLUMNS = tuple(name for name in ENVELOPE_COLUMNS if name not in ("pod", "epoch", "cut", "partition"))
"""The columns that an entry stores; its place in the log implies the others."""

ROWS_AT_ONCE = 500
"""How many rows are Python objects at a time, because an entry may hold hundreds of megabytes of payloads."""
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def entry_checksum(events: pa.Table, place: str) -> str:
    """Return the SHA-256 (hex) of an entry at `place` (``<pod>/<epoch>/<partition>/<cut>/<chunk>``).

    We hash the place and the number of rows. Then, for every column, we hash its name, its number of nulls, one byte
    per row that says which are null (only if there are nulls), and the values. Text columns: all lengths as 32-bit
    little-endian integers, then all texts as UTF-8, null as empty. Numbers and timestamps (microseconds since 1970):
    64-bit little-endian integers, null as 0. The column directory_epoch is omitted where all its values are 1: entries
    from before the column have the same checksum.
    """
    digest = hashlib.sha256(f"{place}:{events.num_rows}".encode())
    for name in STORED_COLUMNS:
        column = events.column(name)
        if name == "directory_epoch" and all(
            value == FIRST_DIRECTORY_EPOCH for values in slices(column) for value in values
        ):
            continue
        nulls = bytes(value is None for values in slices(column) for value in values)
        digest.update(f"|{name}:{sum(nulls)}|".encode())
        if any(nulls):
            digest.update(nulls)
        for part in _texts(column) if pa.types.is_string(column.type) else map(_numbers, slices(column)):
            digest.update(part)
    return digest.hexdigest()


def slices(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """Yield a column's values as Python objects, a part at a time."""
    for start in range(0, len(column), ROWS_AT_ONCE):
        yield column.slice(start, ROWS_AT_ONCE).to_pylist()


def _texts(column: pa.ChunkedArray) -> Iterator[bytes]:
    for values in slices(column):
        yield struct.pack(f"<{len(values)}i", *(len((value or "").encode()) for value in values))
    for values in slices(column):
        yield "".join(value or "" for value in values).encode()


def _numbers(values: list[Any]) -> bytes:
    return struct.pack(f"<{len(values)}q", *map(_number, values))


def _number(value: Any) -> int:
    if value is None:
        return 0
    return (value - EPOCH_START) // MICROSECOND if isinstance(value, datetime) else int(value)
