"""Sums: tables of a read model that add up rows of other tables; PostgreSQL maintains them (migration 0004).

Triggers add the changes of every statement, so a sum always equals its rows, no matter who writes them. Belongs here:
adding up again if a sum itself was damaged. Does not belong here: the rows (`row_statements.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from derived.keyed.store import Key
from derived.read_models.row_statements import SCHEMA, Cursor

SUM_AGAIN = "select read_models.sum_again(%s, %s::text[], %s::text[])"


def lock(cursor: Cursor, tables: Sequence[str]) -> None:
    """Lock these sums against other writers until the commit, so that nobody adds to a sum that is being replaced."""
    for table in sorted(tables):
        statement = sql.SQL("lock table {} in share row exclusive mode").format(sql.Identifier(SCHEMA, table))
        cursor.execute(statement)


def sum_again(cursor: Cursor, table: str, keys: Sequence[Key] | None) -> int:
    """Add up the sums with these (merchant_id, id) again, or all sums; return how many were wrong."""
    merchants, ids = (None, None) if keys is None else ([key[0] for key in keys], [key[1] for key in keys])
    ((changed,),) = cursor.execute(SUM_AGAIN, [table, merchants, ids]).fetchall()
    return int(changed)
