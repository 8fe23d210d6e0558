"""A mapping: a TOML file with a shop's names for columns and values, and their conversion to the format.

    format_version = 1
    time_zone = "Europe/Berlin"
    ignored = ["Notes"]
    [constants]
    merchant_id = "acme"
    [columns]
    order_number = "Name"
    "line.sku" = "Lineitem sku"
    [values."line.kind"]
    Physical = "goods"

Belongs here: reading and checking a mapping, and applying it to one value. Does not belong here: rows and documents
(`documents.py`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping as AnyMapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from contracts.errors import InputError
from contracts.text import visible
from traffic.orders.format import FORMAT_VERSION, LISTS, PARTS, paths_of

REJECT_PREFIX = "reject_"
"""The prefix of the additional columns in a file of rejects; an import ignores these columns."""
_TAX_PLACE = re.compile(r"^tax(\d+)\.")
_DETAIL_CHARACTERS = 60


class RejectedError(Exception):
    """An order cannot be imported: the code of the reason, and the details."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def plain_path(path: str) -> str:
    """Return the path without the number of a tax: ``tax2.owed_to`` becomes ``tax.owed_to``."""
    return _TAX_PLACE.sub("tax.", path)


PATHS = frozenset(path for part in PARTS for path in paths_of(part))
LIST_PATHS = frozenset(f"{part}.{name}" if part else name for part, lists in LISTS.items() for name in lists)


def _of_type(kind: type) -> frozenset[str]:
    """Return the paths of the fields that hold values of a type."""
    return frozenset(
        path
        for part, struct in PARTS.items()
        for path in paths_of(part)
        if kind in (hint := get_type_hints(struct)[path.rpartition(".")[2]], *get_args(hint))
    )


AMOUNTS = _of_type(Decimal)
TEXTS = _of_type(str)


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The rules for converting a shop's file to orders of the format."""

    format_version: Literal[1]
    separator: str = ","
    """The separator of CSV files."""
    time_format: str | None = None
    """A format of Python's strptime; None: ISO 8601."""
    time_zone: str = "UTC"
    """The time zone of times without an offset."""
    has_decimal_comma: bool = False
    """Whether amounts are written as ``1.234,50`` instead of ``1234.50``."""
    rounding_allowance: Decimal = Decimal(0)
    """The largest allowed difference between a stated and a computed amount, in major units; the difference is booked
    separately.
    """
    ignored: list[str] = []
    """Columns, or names in JSON, that are ignored on purpose; ``*``: all columns that the mapping does not name."""
    constants: dict[str, str | bool | int] = {}
    """By the format's name: a fixed value, for fields without a column."""
    columns: dict[str, str] = {}
    """By the format's name: the shop's name."""
    values: dict[str, dict[str, str]] = {}
    """By the format's name: the format's value for each value of the shop."""

    @cached_property
    def zone(self) -> tzinfo:
        """Return the time zone."""
        return ZoneInfo(self.time_zone)

    def targets(self, name: str) -> list[str]:
        """Return the format's names for a column; []: it is ignored on purpose. KeyError when it is unknown."""
        found = [ours for ours, theirs in self.columns.items() if theirs == name]
        if found or name in self.ignored or name.startswith(REJECT_PREFIX):
            return found
        if plain_path(name) in PATHS and name not in self.columns:
            return [name]
        if "*" in self.ignored:
            return []
        raise KeyError(name)

    def value(self, path: str, given: Any) -> Any:
        """Return a value converted to the format, None for an empty value; RejectedError for an unreadable time."""
        if isinstance(given, str):
            given = given.strip()
            if not given:
                return None
        plain = plain_path(path)
        given = self.values.get(plain, {}).get(str(given), given)
        if not isinstance(given, str):
            # Many systems write order numbers and customer ids as JSON numbers.
            return str(given) if type(given) is int and plain in TEXTS else given
        if plain.endswith("_at"):
            return self._moment(path, given)
        if plain in AMOUNTS and self.has_decimal_comma:
            return given.replace(".", "").replace(",", ".")
        return FORMAT_VERSION if given == str(FORMAT_VERSION) and plain == "format_version" else given

    def _moment(self, path: str, text: str) -> datetime:
        try:
            if self.time_format is not None:
                moment = datetime.strptime(text, self.time_format)
            else:
                moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=self.zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            form = self.time_format or "2026-01-31T14:05:00+01:00"
            shown = visible(text[:_DETAIL_CHARACTERS])
            raise RejectedError("moment_not_readable", f"{path} is '{shown}', not like {form}") from None


DIRECT = Mapping(format_version=1)
"""The mapping for a file that is already in the format."""


def read_mapping(path: Path | None) -> Mapping:
    """Return the mapping in a file (None: `DIRECT`); InputError when it cannot be read or is wrong."""
    if path is None:
        return DIRECT
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Mapping, strict=False)
    except OSError as error:
        raise InputError(f"Mapping {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"Mapping {path} is wrong: {error}.") from None
    _check(path, mapping)
    return mapping


def _check(path: Path, mapping: Mapping) -> None:
    for table, names, known in (
        ("constants", mapping.constants, PATHS),
        ("columns", mapping.columns, PATHS | LIST_PATHS),
        ("values", mapping.values, PATHS),
    ):
        unknown = [name for name in names if plain_path(name) not in known]
        if unknown:
            raise InputError(f"Mapping {path}, [{table}]: the format has no {_listed(unknown)}.")
    twice = _twice(mapping.columns)
    if twice:
        raise InputError(f"Mapping {path}, [columns]: {_listed(twice)} is named for more than one field.")
    if len(mapping.separator) != 1:
        raise InputError(f"Mapping {path}: separator is one character.")
    if not mapping.rounding_allowance.is_finite() or not 0 <= mapping.rounding_allowance <= 1:
        raise InputError(f"Mapping {path}: rounding_allowance is 0 to 1 in major units of an order's currency.")
    try:
        _ = mapping.zone
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"Mapping {path}: time_zone {mapping.time_zone!r} is not known.") from None


def _twice(columns: AnyMapping[str, str]) -> list[str]:
    """Return the shop's names that map to two fields of the same part (different parts may share a name)."""
    named = [(ours.rpartition(".")[0], theirs) for ours, theirs in columns.items()]
    return sorted({theirs for part, theirs in named if named.count((part, theirs)) > 1})


def _listed(names: list[str]) -> str:
    return ", ".join(repr(visible(name)) for name in names)
