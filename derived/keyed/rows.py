"""The tables of a keyed copy: which aggregate fills which table, and the rows that events require.

Belongs here: these declarations, as values that do not depend on a store. Does not belong here: columns and their
meaning (modules named after their copy), how rows are written (`derived/read_models/row_statements.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec

from contracts.events.common import AggregateState
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH


class RootRow(msgspec.Struct, frozen=True, kw_only=True):
    """The row of one aggregate. Subclasses name the other columns of their table, first that of the aggregate's id.

    `directory_epoch` is by default the first one: `decoding.py` sets the epoch of the event.
    """

    merchant_id: str
    pod: str
    """Of the newest event, from which the row was made; so are the epochs and the version."""
    epoch: str
    version: int
    directory_epoch: int = FIRST_DIRECTORY_EPOCH


class ChildRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of several rows of an aggregate; the first two columns are the aggregate's key."""


Row = TypeVar("Row", bound=RootRow)


def row_of(row_type: type[Row], state: AggregateState, pod: str, epoch: str, **computed: object) -> Row:
    """Return an aggregate's row: each column is the state's field of this name, except those that are `computed`."""
    values: dict[str, Any] = {"pod": pod, "epoch": epoch, "directory_epoch": FIRST_DIRECTORY_EPOCH, **computed}
    copied = {name: getattr(state, name) for name in row_type.__struct_fields__ if name not in values}
    return row_type(**copied, **values)


@dataclass(frozen=True, kw_only=True)
class Child:
    """A table with any number of rows per aggregate, replaced together with the root row."""

    table: str
    row_type: type[ChildRow]
    rows: Callable[[Any], Sequence[ChildRow]]
    """Function: state -> rows."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """A table with one row per aggregate of one type; a higher version or another epoch of the same pod wins."""

    table: str
    state_type: type[AggregateState]
    row_type: type[RootRow]
    row: Callable[[Any, str, str], RootRow | None]
    """Function: (state, pod, epoch) -> row; None: this aggregate is not in the view."""
    child: Child | None = None
    needs: tuple[str, ...] = ()
    """Fields of the aggregate without which it is not in the view, besides its customer."""

    @property
    def aggregate_type(self) -> str:
        """The type of the aggregates that fill the table."""
        return self.state_type.AGGREGATE_TYPE

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names, in the order of the row type."""
        return self.row_type.__struct_fields__

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the root table and its child."""
        return (self.table, self.child.table) if self.child else (self.table,)

    @property
    def needed(self) -> tuple[str, ...]:
        """The fields without which an aggregate has no row: `needs`, and the customer if every row must name one."""
        fields = msgspec.structs.fields(self.row_type)
        return (*self.needs, *(one.name for one in fields if one.name == "customer_id" and one.type is str))

    @property
    def row_types(self) -> dict[str, type[msgspec.Struct]]:
        """The row type of each of its tables."""
        return {self.table: self.row_type, **({self.child.table: self.child.row_type} if self.child else {})}

    @property
    def key_columns(self) -> tuple[str, str]:
        """merchant_id and the column of the aggregate's id."""
        return "merchant_id", self.columns[len(RootRow.__struct_fields__)]

    def key_of(self, row: RootRow) -> tuple[str, str]:
        """Return the merchant and the aggregate's id of a row."""
        return row.merchant_id, getattr(row, self.key_columns[1])


class Absent(NamedTuple):
    """An aggregate that is not in the view as of a version."""

    merchant_id: str
    aggregate_id: str
    pod: str
    epoch: str
    directory_epoch: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """The rows that a root table (and its child) must hold for some keys."""

    rows: Sequence[RootRow]
    children: Sequence[ChildRow]
    absent: Sequence[Absent]
    """Aggregates that are not in the view."""
