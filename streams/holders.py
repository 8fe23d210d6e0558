"""Long-open transactions of a pod. Until such a transaction ends, no cut has its events, and it holds back vacuum.

Belongs here: finding them. Does not belong here: ending them (a person does, because no program knows their purpose).
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

OPEN_SECONDS_MIN = 300.0
"""Younger transactions are normal: a comparison of a large pod reads in one transaction."""

# A prepared transaction belongs to no session: only a statement ends it, not even a restart of the server does.
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
    """A transaction that has been open for long."""

    what: str
    """A prepared transaction with its name, or a session with its process id and state."""
    whose: str
    """Role, and the application name of the session."""
    seconds: float
    to_end_it: str
    """SQL statements that end it; the owner or a superuser runs one in the pod's database."""


def open_transactions(dsn: str, *, seconds_min: float = OPEN_SECONDS_MIN) -> list[OpenTransaction]:
    """Return a pod's transactions that have been open for `seconds_min`: the oldest first, at most twenty.

    Sessions of other roles are found only if the role of `dsn` is granted `pg_read_all_stats`.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.cursor(row_factory=class_row(OpenTransaction))
        return cursor.execute(OPEN, {"seconds": seconds_min}).fetchall()
