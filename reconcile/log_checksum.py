"""The checksum of a log entry, computed a second time from its description.

Belongs here: that one function, written row by row instead of over Arrow's buffers as the publisher does it. Does not
belong here: what is compared with it.
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
"""What an entry holds; the rest is implied by where it stands."""

ROWS_AT_ONCE = 500
"""How many rows' values are Python objects at a time: an entry may hold hundreds of megabytes of payloads."""
EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def entry_checksum(events: pa.Table, place: str) -> str:
    """Return the SHA-256 (hex) of an entry at `place` (``<pod>/<epoch>/<partition>/<cut>/<chunk>``).

    Place and number of rows, then column by column: name, number of nulls, if there are any one byte per row that says
    which; then the values. Text: all lengths as 32-bit little-endian integers, all texts as UTF-8, null as empty.
    Numbers and moments (microseconds since 1970): 64-bit little-endian integers, null as 0. The column directory_epoch
    is left out where it says 1 throughout, as it is from entries that were written before there was the column.
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
