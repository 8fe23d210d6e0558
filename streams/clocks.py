"""A clock that gives a database's time, because the clock of this machine may differ by hours.

An event carries the time at which its pod's database recorded it, so only the same clock gives its age. A lease in the
control database ends at one time for all processes, so they must read the same clock. Belongs here: that clock. Does
not belong here: ages (`streams/lag.py`), the clock of a process (`contracts/clock.py`).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from contracts.clock import Clock, utc_now


def database_clock(dsn: str, *, clock: Clock = utc_now) -> Clock:
    """Return a clock with the time of the database at `dsn`, which is queried once; `clock` if it does not answer.

    The error of the clock is at most the duration of that query.
    """
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            ((there,),) = connection.execute("select clock_timestamp()").fetchall()
    except psycopg.OperationalError:
        return clock
    ahead: timedelta = there - clock()
    return lambda: clock() + ahead
