"""What every answer from a read model states besides its rows: its age, and which aggregates are parked.

Belongs here: freshness of an answer. Does not belong here: the rows (modules named after their read model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row, kwargs_row

from contracts.clock import Clock
from contracts.errors import PropagationError
from derived.dsn import described

Connection = psycopg.Connection[tuple[Any, ...]]
Row = TypeVar("Row")

POSITIONS = """
    select pod, min(cut) as applied_cut, max(data_at) as data_at
    from read_models.positions where projection = %s group by pod order by pod"""
PARKED = """
    select aggregate_key from read_models.parked_events
    where projection = %s and starts_with(aggregate_key, %s || '/') group by aggregate_key order by aggregate_key"""


@dataclass(frozen=True, kw_only=True)
class PodFreshness:
    """A view's progress in one pod."""

    pod: str
    applied_cut: int
    """Every event up to this cut is in the view; some events of later cuts may be in it, too."""
    data_at: datetime | None
    """When the newest applied cut was registered; None if nothing was applied."""
    age_seconds: float | None
    """Seconds from `data_at` to the answer. In an idle pod it grows although nothing is missing."""


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """The age of an answer."""

    pods: tuple[PodFreshness, ...]
    parked_keys: tuple[str, ...]
    """Aggregates of this merchant whose newest events could not be applied: their rows are older than the rest."""


@contextmanager
def snapshot(dsn: str) -> Iterator[Connection]:
    """Yield a connection in one read-only snapshot, so that rows and their positions belong together.

    Raises PropagationError if the database cannot be reached.
    """
    try:
        with psycopg.connect(dsn) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
    except psycopg.OperationalError:
        raise PropagationError(f"The read models ({described(dsn)}) could not be reached; ask again later.") from None


def freshness(connection: Connection, projection: str, merchant_id: str, pods: set[str], clock: Clock) -> Freshness:
    """Return the age of a projection's answer about a merchant, in these pods; in all pods if `pods` is empty."""
    now = clock()
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(POSITIONS, [projection]).fetchall()
    parked = connection.execute(PARKED, [projection, merchant_id]).fetchall()
    return Freshness(
        pods=tuple(
            PodFreshness(**row, age_seconds=None if row["data_at"] is None else (now - row["data_at"]).total_seconds())
            for row in rows
            if not pods or row["pod"] in pods
        ),
        parked_keys=tuple(row[0] for row in parked),
    )


def select(
    connection: Connection, made: Callable[..., Row], query: str, values: Sequence[object] | Mapping[str, object]
) -> list[Row]:
    """Return `made` of each row of a query; it is called with the row's columns by name."""
    with connection.cursor(row_factory=kwargs_row(made)) as cursor:
        return cursor.execute(query.encode(), values).fetchall()
