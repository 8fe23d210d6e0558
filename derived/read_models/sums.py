"""Sums: tables of a read model that add the rows of others up, as migration 0004 has PostgreSQL keep them.

Triggers add what every statement changes, so a sum is always that of the rows beside it, whoever writes them. Belongs
here: adding up again, where a sum itself was damaged. Does not belong here: the rows (`tables.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from derived.keyed.store import Key
from derived.read_models.tables import SCHEMA, Cursor

SUM_AGAIN = "select read_models.sum_again(%s, %s::text[], %s::text[])"


def lock(cursor: Cursor, tables: Sequence[str]) -> None:
    """Keep all others from writing these sums until the commit, so that none adds to what is being replaced."""
    for table in sorted(tables):
        statement = sql.SQL("lock table {} in share row exclusive mode").format(sql.Identifier(SCHEMA, table))
        cursor.execute(statement)


def sum_again(cursor: Cursor, table: str, keys: Sequence[Key] | None) -> int:
    """Make the sums with these (merchant_id, id), or all, what the rows add up to; return how many were other ones."""
    merchants, ids = (None, None) if keys is None else ([key[0] for key in keys], [key[1] for key in keys])
    ((changed,),) = cursor.execute(SUM_AGAIN, [table, merchants, ids]).fetchall()
    return int(changed)
