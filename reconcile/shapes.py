"""The shape of a comparable table: its key, its columns with their types, and the segments of its sums.

Belongs here: the shape that both sides of a comparison must have. Does not belong here: how a side is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts.ids import aggregate_key
from contracts.verdicts import Scalar

BIGINT, VARCHAR, BOOLEAN, TIMESTAMP = "BIGINT", "VARCHAR", "BOOLEAN", "TIMESTAMPTZ"
HUGEINT = "HUGEINT"
"""Only these five types are compared. There are no floats, because every compared number is an integer. Sums over rows
are HUGEINT: the largest allowed amount fits 64 bits, but a sum of several may not.
"""

WHOLE_NUMBERS = (BIGINT, HUGEINT)

MONEY_SUFFIXES = ("_minor", "_micro")

AggregateOf = Callable[[Mapping[str, Scalar]], str | None]
"""A row (column -> value) -> the key of its aggregate; None when it names none."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One compared column; both sides have it under this name with this DuckDB type."""

    name: str
    type: str
    default: str | None = None
    """The value, as text, for a payload without the field, which was written before the field was added."""

    @property
    def is_money(self) -> bool:
        """Whether it is an amount in minor or micro-units."""
        return self.type in WHOLE_NUMBERS and self.name.endswith(MONEY_SUFFIXES)

    @property
    def is_tax(self) -> bool:
        """Whether it is an amount of tax, or a taxable amount."""
        return self.is_money and ("tax" in self.name)

    @property
    def is_measure(self) -> bool:
        """Whether it is summed: amounts of money and quantities are, rates and versions are not."""
        return self.type in WHOLE_NUMBERS and (
            self.is_money
            or self.name in ("quantity", "on_hand", "reserved", "events")
            or self.name.endswith("_quantity")
        )


def text(*names: str) -> tuple[Column, ...]:
    """Return text columns."""
    return tuple(Column(name=name, type=VARCHAR) for name in names)


def number(*names: str) -> tuple[Column, ...]:
    """Return whole-number columns."""
    return tuple(Column(name=name, type=BIGINT) for name in names)


def moment(*names: str) -> tuple[Column, ...]:
    """Return timestamp columns."""
    return tuple(Column(name=name, type=TIMESTAMP) for name in names)


def flag(*names: str) -> tuple[Column, ...]:
    """Return yes-or-no columns."""
    return tuple(Column(name=name, type=BOOLEAN) for name in names)


def sums(*names: str) -> tuple[Column, ...]:
    """Return columns that are sums over rows."""
    return tuple(Column(name=name, type=HUGEINT) for name in names)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of one compared table.

    `key` names columns of type VARCHAR; a key that one side has twice is reported as duplicate. `merchant`, `day` and
    `currency` are the columns that group rows into segments; None when the table has no such column. `day` is a
    timestamp, which is truncated to the UTC day, or a text `YYYY-MM-DD`.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    merchant: str | None = "merchant_id"
    day: str | None = None
    currency: str | None = None
    version: str | None = None
    """The version column: a lower version in the copy makes the difference stale, not wrong."""
    aggregate: AggregateOf | None = None
    """Returns the aggregate key of a row; None when rows are sums over several aggregates."""

    @property
    def measures(self) -> tuple[Column, ...]:
        """The columns that are summed."""
        return tuple(column for column in self.columns if column.is_measure)

    @property
    def names(self) -> tuple[str, ...]:
        """Key columns, then compared columns."""
        return (*self.key, *(column.name for column in self.columns if column.name not in self.key))

    def type_of(self, name: str) -> str:
        """Return the DuckDB type of a key or compared column."""
        return next((column.type for column in self.columns if column.name == name), VARCHAR)


def belongs_to(aggregate_type: str, id_column: str) -> AggregateOf:
    """Return a function that gives the key of a row's aggregate, of this type and with its id in `id_column`."""
    return lambda row: _key(row["merchant_id"], aggregate_type, row[id_column])


def names_aggregate(row: Mapping[str, Scalar]) -> str | None:
    """Return the aggregate key of a row that has columns for the aggregate's type and id."""
    return _key(row["merchant_id"], row["aggregate_type"], row["aggregate_id"])


def _key(merchant_id: Scalar, aggregate_type: Scalar, aggregate_id: Scalar) -> str | None:
    if merchant_id is None or aggregate_type is None or aggregate_id is None:
        return None
    return aggregate_key(str(merchant_id), str(aggregate_type), str(aggregate_id))


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier. Names are our own; we quote them because of keywords such as `partition`."""
    return '"' + name.replace('"', '""') + '"'
