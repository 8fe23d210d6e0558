"""How it is said what the tables of a read model must hold: of the lake's states, in SQL of the comparison's own.

Belongs here: the values. Does not belong here: what each read model must hold (`reconcile/copies/`), how they are read
and compared (`reconcile/read_model_pairs.py`), or built (`derived/read_models/`).
"""

from __future__ import annotations

from dataclasses import dataclass

from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR, Column, Shape


def text(*names: str) -> tuple[Column, ...]:
    """Return text columns."""
    return tuple(Column(name=name, type=VARCHAR) for name in names)


def number(*names: str) -> tuple[Column, ...]:
    """Return whole-number columns."""
    return tuple(Column(name=name, type=BIGINT) for name in names)


def moment(*names: str) -> tuple[Column, ...]:
    """Return timestamp columns."""
    return tuple(Column(name=name, type=TIMESTAMP) for name in names)


@dataclass(frozen=True, kw_only=True)
class ViewTable:
    """A table of a view, and what the lake's states say it must hold.

    `expected` is DuckDB SQL over the folded states, ``{orders}`` standing for those of orders and so on. `root` names
    the table that says which pod a row belongs to, where the table itself does not.
    """

    shape: Shape
    aggregate_type: str
    id_column: str
    expected: str
    root: str | None = None
    query: str | None = None
    """Reads the table, where not each column is one of its own; ``{condition}`` stands for what is asked for."""

    @property
    def name(self) -> str:
        """The table's name in schema `read_models`."""
        return self.shape.name


@dataclass(frozen=True, kw_only=True)
class ViewSum:
    """A table of a view that adds its other rows up.

    `parts` is PostgreSQL SQL for the rows that are added up, with the columns of `group`, the compared measures, `pod`
    and `aggregate_id`. Rows are compared with lake's states by themselves; so the sums of right rows are right.
    """

    shape: Shape
    id_column: str
    group: tuple[str, ...]
    parts: str

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
    """What of it is compared, in a sentence."""
    sums: tuple[ViewSum, ...] = ()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """What is compared: key and columns per table."""
        return (*(item.shape for item in self.tables), *(item.shape for item in self.sums))

    @property
    def aggregate_types(self) -> tuple[str, ...]:
        """The aggregates whose states it holds."""
        return tuple(dict.fromkeys(item.aggregate_type for item in self.tables))
