"""Whole aggregates as they are now, without locks.

Belongs here: reading by id and by a column of the root. Does not belong here: reading to change (`oltp/store/rows.py`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import psycopg

from contracts.events.common import AggregateState
from oltp.store.mapping import MAPPINGS
from oltp.store.rows import required

State = TypeVar("State", bound=AggregateState)
Connection = psycopg.Connection[Any]


def state_of(connection: Connection, state_type: type[State], merchant_id: str, aggregate_id: str) -> State:
    """Return one aggregate; NotFoundError when the merchant has none with this id."""
    found = states_by(connection, state_type, merchant_id, state_type.ID_FIELD, aggregate_id)
    return required(found, state_type, merchant_id, aggregate_id)


def states_by(
    connection: Connection, state_type: type[State], merchant_id: str, column: str, value: str
) -> list[State]:
    """Return the merchant's aggregates whose root has `value` in `column`, by id."""
    rows = connection.execute(MAPPINGS[state_type].select(column), (merchant_id, value)).fetchall()
    return [msgspec.json.decode(row[0], type=state_type) for row in rows]
