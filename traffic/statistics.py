"""Fresh planner statistics while tables grow from nothing to many rows within minutes.

Belongs here: when to analyze a pod's tables during bulk work. Does not belong here: steady operation, where PostgreSQL
does it by itself.

Commands keep prepared plans. Those made while a table was nearly empty suit a nearly empty table, and cost more with
every order, until the next autovacuum, a minute away. Measured on the first 4,000 rows of 2010-12: the server needs
13 s of processor time without this, 5 s with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress

import psycopg

from contracts.settings import PodSettings

FIRST = 25

_GROWN = """
select relname from pg_stat_user_tables
where schemaname = 'oltp' and n_mod_since_analyze > 50 + n_live_tup / 3
order by relname
"""


class GrowingTables(AbstractContextManager["GrowingTables"]):
    """Analyzes what has grown in the pods each time the work done has doubled; beside the work, not before it."""

    def __init__(self, pods: Iterable[PodSettings]) -> None:
        self._pods = tuple(pods)
        self._next = FIRST
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="statistics")
        self._running: Future[None] | None = None

    def __exit__(self, *_: object) -> None:
        """Wait for what is running."""
        self._thread.shutdown()

    def grown_to(self, count: int) -> None:
        """Begin to analyze when `count` (e.g. orders placed) has doubled since the last time, unless it still runs."""
        if count >= self._next and (self._running is None or self._running.done()):
            self._next = 2 * count
            self._running = self._thread.submit(self._analyze)

    def _analyze(self) -> None:
        # An aid only: whatever is wrong with a pod, the commands will say.
        with suppress(psycopg.Error):
            for pod in self._pods:
                with psycopg.connect(pod.app_dsn, autocommit=True) as connection:
                    for (table,) in connection.execute(_GROWN).fetchall():
                        connection.execute("select oltp.refresh_statistics(%s)", (table,))
