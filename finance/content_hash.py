"""The canonical form of a report's content; the certificate states the SHA-256 of this form.

The content is what the report says: name, period, cuts, columns, rows. It does not include the layout or the time of
printing. Amounts are integers in the unit at the end of the column's name, other values are text, an empty cell is
null. The form is UTF-8 JSON with sorted keys and without spaces; docs/finance.md describes it, so that others can
compute it.

Belongs here: that form and its checksum. Does not belong here: reading it back from files (`finance/verification.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from contracts.errors import InputError

FORMAT = "tieout-report/1"
NUMBERS = ("_minor", "_micro", "_ppm", "_count", "_quantity")
"""Endings of the names of columns that hold amounts or counts. These and `plain` are part of the format."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a report says, without its layout."""

    name: str
    period: str | None
    cuts: Mapping[str, int]
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def canonical(value: object) -> bytes:
    """Return a JSON value in canonical form: sorted keys, no spaces, UTF-8, only the escapes that JSON requires."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def content_sha256(content: Content) -> str:
    """Return the checksum of a report's content. InputError if an amount or count is not a whole number."""
    return sha256(canonical(document(content)))


def document(content: Content) -> dict[str, Any]:
    """Return the content as the JSON value that is hashed."""
    return {
        "format": FORMAT,
        "name": content.name,
        "period": content.period,
        "cuts": dict(content.cuts),
        "columns": list(content.columns),
        "rows": [[cell(name, value) for name, value in zip(content.columns, row, strict=True)] for row in content.rows],
    }


def cell(column: str, value: object) -> str | int | None:
    """Return one value in canonical form."""
    value = plain(value)
    if value is None or value == "":
        return None
    if is_number(column):
        if type(value) is int:
            return value
        raise InputError(f"{value!r} in column {column} is no whole number; the report was changed or is no report.")
    return str(value)


def is_number(column: str) -> bool:
    """Return whether a column holds amounts or counts."""
    return column.endswith(NUMBERS)


def plain(value: object) -> object:
    """Return a value as JSON holds it: whole numbers as integers, dates and times as text."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value if isinstance(value, int | str | bool | None) else str(value)
