"""The types that declare what the tables of a read model must hold, as SQL over the lake's states.

Belongs here: these types. Does not belong here: what each read model must hold (`reconcile/copies/`), how it is read
and compared (`reconcile/read_model_pairs.py`), or built (`derived/read_models/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.shapes import Column, Shape, belongs_to, number, text

ORIGIN = (*text("pod", "epoch"), *number("directory_epoch"))
"""Of a root's row: the pod and epochs of the newest event, from which it was made."""


@dataclass(frozen=True, kw_only=True)
class ViewTable:
    """A table of a view, and the rows that it must hold by the lake's states.

    `expected` is DuckDB SQL over the folded states; ``{orders}`` is replaced by the table of order states, and so on.
    `root` names the table with the column `pod`, when the table itself has none.
    """

    shape: Shape
    aggregate_type: str
    id_column: str
    expected: str
    root: str | None = None
    query: str | None = None
    """PostgreSQL query that reads the table when a column is not stored as such; ``{condition}`` selects the rows."""

    @property
    def name(self) -> str:
        """The table's name in schema `read_models`."""
        return self.shape.name


def rows_of(
    aggregate_type: str,
    id_column: str,
    table: str,
    *,
    columns: tuple[Column, ...],
    expected: str,
    part: tuple[str, ...] = (),
    day: str | None = None,
    currency: str | None = None,
    root: str | None = None,
    query: str | None = None,
) -> ViewTable:
    """Return a table of one row per aggregate, with its version; of any number with `part`, the rest of their key."""
    return ViewTable(
        shape=Shape(
            name=table,
            key=(id_column, *part),
            columns=columns,
            day=day,
            currency=currency,
            version=None if part else "version",
            aggregate=belongs_to(aggregate_type, id_column),
        ),
        aggregate_type=aggregate_type,
        id_column=id_column,
        expected=expected,
        root=root,
        query=query,
    )


@dataclass(frozen=True, kw_only=True)
class SumPart:
    """A table whose rows are added up, with the columns of the sum's `group`.

    `measures` maps a measure of the sum to the expression over a row that is added up; the others are 0 here. `root`
    names the table with the column `pod`, when the table itself has none.
    """

    name: str
    id_column: str
    measures: Mapping[str, str]
    root: str | None = None


@dataclass(frozen=True, kw_only=True)
class ViewSum:
    """A table of a view whose rows are sums over rows of its other tables.

    The rows of the parts are themselves compared with the lake's states; sums over right rows are right.
    """

    shape: Shape
    id_column: str
    group: tuple[str, ...]
    parts: tuple[SumPart, ...]

    @property
    def name(self) -> str:
        """The table's name in schema `read_models`."""
        return self.shape.name


@dataclass(frozen=True, kw_only=True)
class View:
    """A read model: its name as a projection, and its tables."""

    name: str
    tables: tuple[ViewTable, ...]
    compared: str
    """One sentence that says what is compared."""
    sums: tuple[ViewSum, ...] = ()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What is compared: key and columns per table."""
        return (*(item.shape for item in self.tables), *(item.shape for item in self.sums))

    @property
    def aggregate_types(self) -> tuple[str, ...]:
        """The aggregate types whose states it holds."""
        return tuple(dict.fromkeys(item.aggregate_type for item in self.tables))
