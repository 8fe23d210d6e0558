"""Transactions of a pod that have been open for long: each holds back its own events from every cut, and vacuum.

Belongs here: finding them. Does not belong here: ending them (people do: whose they are, no program knows).
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

OPEN_SECONDS_MIN = 300.0
"""Younger ones are at work: a comparison of a large pod reads in one transaction."""

# A prepared transaction belongs to no session: nothing ends it by itself, not even a restart.
OPEN = """
select 'prepared transaction ' || gid as what, owner::text as whose,
       extract(epoch from clock_timestamp() - prepared)::float8 as seconds,
       format('commit prepared %%L; or rollback prepared %%L;', gid, gid) as to_end_it
from pg_prepared_xacts
where database = current_database() and prepared < clock_timestamp() - make_interval(secs => %(seconds)s)
union all
select 'session ' || pid || ', ' || coalesce(state, 'state not shown'),
       concat_ws(', ', usename, nullif(application_name, '')),
       extract(epoch from clock_timestamp() - xact_start)::float8,
       format('select pg_terminate_backend(%%s);', pid)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
  and xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
order by seconds desc
limit 20
"""


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """One that is open for long."""

    what: str
    """A prepared transaction with its name, or a session with its process id and state."""
    whose: str
    """Role, and what the session calls itself."""
    seconds: float
    to_end_it: str
    """SQL, for the owner or a superuser in the pod's database."""


def open_transactions(dsn: str, *, seconds_min: float = OPEN_SECONDS_MIN) -> list[OpenTransaction]:
    """Return what has been open in a pod's database for that long, the oldest first, at most twenty.

    Of sessions of other roles a role sees how long they are open only if it is granted `pg_read_all_stats`.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.cursor(row_factory=class_row(OpenTransaction))
        return cursor.execute(OPEN, {"seconds": seconds_min}).fetchall()
