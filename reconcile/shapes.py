"""What a comparable table looks like: its key, its columns with their types, and the segments it is summed over.

Belongs here: the shape that both sides of a comparison must be brought into. Does not belong here: how a side is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts.ids import aggregate_key
from contracts.verdicts import Scalar

BIGINT, VARCHAR, BOOLEAN, TIMESTAMP = "BIGINT", "VARCHAR", "BOOLEAN", "TIMESTAMPTZ"
HUGEINT = "HUGEINT"
"""These are the only types that are compared. No floats: a number is a whole number or the sides differ. What adds
rows up is a HUGEINT: the largest amount that is allowed fits 64 bits, a sum of several need not."""

WHOLE_NUMBERS = (BIGINT, HUGEINT)

MONEY_SUFFIXES = ("_minor", "_micro")

AggregateOf = Callable[[Mapping[str, Scalar]], str | None]
"""A row (column -> value) -> the key of the aggregate that it belongs to."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One compared column; both sides deliver it under this name with this DuckDB type."""

    name: str
    type: str
    default: str | None = None
    """What it is, as text, in a payload that lacks it: one from before the field was added."""

    @property
    def is_money(self) -> bool:
        """Whether it is an amount in minor or micro-units."""
        return self.type in WHOLE_NUMBERS and self.name.endswith(MONEY_SUFFIXES)

    @property
    def is_tax(self) -> bool:
        """Whether it is an amount of tax, or the amount that tax is on."""
        return self.is_money and ("tax" in self.name)

    @property
    def is_measure(self) -> bool:
        """Whether it is summed: money and numbers of units, not rates, numbers or versions."""
        return self.type in WHOLE_NUMBERS and (
            self.is_money
            or self.name in ("quantity", "on_hand", "reserved", "events")
            or self.name.endswith("_quantity")
        )


def sums(*names: str) -> tuple[Column, ...]:
    """Return columns that add rows up."""
    return tuple(Column(name=name, type=HUGEINT) for name in names)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of one compared table.

    `key` names columns of type VARCHAR; a side that has a key twice is reported as duplicate. `merchant`, `day` and
    `currency` say by what rows are grouped into segments, where the table has such columns (`day` is a timestamp, cut
    to the UTC day, or a text `YYYY-MM-DD`).
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    merchant: str | None = "merchant_id"
    day: str | None = None
    currency: str | None = None
    version: str | None = None
    """The column by which an older row is told from a wrong one."""
    aggregate: AggregateOf | None = None
    """Says to which aggregate a row that differs belongs; None where rows are sums over several."""

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
    """Return what finds a row's aggregate of one type, by a column that holds its id."""
    return lambda row: _key(row["merchant_id"], aggregate_type, row[id_column])


def names_aggregate(row: Mapping[str, Scalar]) -> str | None:
    """Return the aggregate of a row that has its type and id as columns."""
    return _key(row["merchant_id"], row["aggregate_type"], row["aggregate_id"])


def _key(merchant_id: Scalar, aggregate_type: Scalar, aggregate_id: Scalar) -> str | None:
    if merchant_id is None or aggregate_type is None or aggregate_id is None:
        return None
    return aggregate_key(str(merchant_id), str(aggregate_type), str(aggregate_id))


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier; names are our own, quoting is for words such as `partition`."""
    return '"' + name.replace('"', '""') + '"'
