"""The clock of a database, on a machine whose own may be hours away from it.

Events carry the moment at which a pod's database recorded them; how old one is can be told only by the same clock. A
claim in the control database runs out at a moment that all who look at it must see alike. Belongs here: that clock.
Does not belong here: ages (`streams/lag.py`), the clock of a process (`contracts/clock.py`).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from contracts.clock import Clock, utc_now


def database_clock(dsn: str, *, clock: Clock = utc_now) -> Clock:
    """Return a clock that tells the time of the database at `dsn`, which is asked once; `clock` if it does not answer.

    It is off by as much as the answer takes, at most.
    """
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            ((there,),) = connection.execute("select clock_timestamp()").fetchall()
    except psycopg.OperationalError:
        return clock
    ahead: timedelta = there - clock()
    return lambda: clock() + ahead
