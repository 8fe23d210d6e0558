"""The read models that exist and the tables they have, found by their names in the contract.

Belongs here: finding a read model's module. Does not belong here: the read models.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from contracts.ownership import READ_MODELS, Copy
from derived.keyed.rows import Root


def roots_of(copy: Copy) -> tuple[Root, ...]:
    """Return the root tables of a read model."""
    roots: tuple[Root, ...] = import_module(copy.module).ROOTS
    return roots


def all_roots() -> Iterator[Root]:
    """Yield the root tables of all read models."""
    for copy in READ_MODELS:
        yield from roots_of(copy)


def roots_from(aggregate_type: str) -> tuple[Root, ...]:
    """Return the root tables of all read models with a row for each aggregate of a type."""
    return tuple(root for root in all_roots() if root.aggregate_type == aggregate_type)


def tables_with(column: str) -> tuple[str, ...]:
    """Return the tables of all read models that have a column of this name."""
    return tuple(
        table
        for root in all_roots()
        for table, row_type in root.row_types.items()
        if column in row_type.__struct_fields__
    )
