"""Looks at the ledger, once a second: whether a break may wait for a repair, and what was compared last.

A worker that repairs in its own process states that it looks, so that nobody else starts the same repair in a new
process. Times are those of the control database's clock.

Belongs here: these cheap looks. Does not belong here: which breaks wait for which repair (`incidents.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from repair.ledger.schema import reading

LOOK = """
select exists (select from trust.breaks where ended_at is null and state in ('open', 'repairing')) as has_breaks,
       (select max(recorded_moment) from trust.compared) as moment
"""
STATE = """
insert into trust.looks (name, looked_at) values (%(name)s, clock_timestamp())
on conflict (name) do update set looked_at = excluded.looked_at
"""
LOOKED = """
select exists (
    select from trust.looks where name = %(name)s and looked_at > clock_timestamp() - make_interval(secs => %(seconds)s)
) as is_looked_at
"""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look saw."""

    has_breaks: bool
    """Whether a break is open, or claimed by a repair that may be dead."""
    moment: int | None
    """The ledger's counter when it last took in a comparison; None before the first."""


def look(connection: psycopg.Connection[Any]) -> Look:
    """Return what is there now."""
    row = connection.execute(LOOK).fetchone()
    assert row is not None
    return Look(has_breaks=row[0], moment=row[1])


def state_look(connection: psycopg.Connection[Any], name: str) -> None:
    """State that the worker `name` looks."""
    connection.execute(STATE, {"name": name})


def is_looked_at(control_dsn: str, name: str, seconds: float) -> bool:
    """Return whether the worker `name` has looked within this time."""
    with reading(control_dsn) as connection:
        row = connection.execute(LOOKED, {"name": name, "seconds": seconds}).fetchone()
    return row is not None and bool(row["is_looked_at"])
