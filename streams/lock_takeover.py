"""Republishes while a relay runs: takes over the pod's relay lock, and releases it afterwards.

Belongs here: taking the lock from its holder, so that at no time two sessions hold it and no other relay can get it in
between. Does not belong here: publishing (`streams/relay.py`).

We wait in PostgreSQL's lock queue; relays only try once, so we get the lock when the holder's session ends. The ended
relay may still append one cut. Its entries and manifest are a function of that cut, so they go into the old generation,
or the log recognizes them as already there. The ended relay fails at its next statement, finds that the pod is busy,
and ends; its supervisor restarts it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg

from contracts.errors import RelayBusyError
from contracts.settings import PodSettings, Settings
from streams.history import CutSource
from streams.outbox_reading import RELAY_LOCK
from streams.relay import REPUBLISHING, DrainResult, build_relay

TAKEOVER_SECONDS_MAX = 30.0
"""Time limit of one takeover. A holder that ends after its present statement needs only milliseconds."""

LOOK_SECONDS = 0.05

SESSIONS = """
select locks.pid, locks.granted, coalesce(activity.application_name, '')
from pg_locks as locks
left join pg_stat_activity as activity using (pid)
where locks.locktype = 'advisory'
  and locks.database = (select oid from pg_database where datname = current_database())
  and locks.classid = %(classid)s and locks.objid = %(objid)s and locks.objsubid = 2
"""


def republish_now(
    pod: PodSettings,
    settings: Settings,
    from_cut: int,
    *,
    cut_sources: Sequence[CutSource] = (),
    seconds_max: float = TAKEOVER_SECONDS_MAX,
) -> DrainResult:
    """Publish the cuts from `from_cut` on again into a new generation, whether or not a relay runs; return the counts.

    Use it when the log lost entries or manifests. Consumers continue by themselves and apply no event twice. A second
    call republishes again, and deletes what an interrupted call left. Raises LogDivergedError when the outbox is pruned
    beyond `from_cut`, RelayBusyError when the holder's session could not be ended, StackError when a server is
    unreachable.
    """

    def take_lock(connection: psycopg.Connection[Any]) -> None:
        _take_over(pod, connection, seconds_max)

    with closing(build_relay(pod, settings, cut_sources=cut_sources)) as relay:
        return relay.republish(from_cut, take_lock=take_lock)


def _take_over(pod: PodSettings, connection: psycopg.Connection[Any], seconds_max: float) -> None:
    """Terminate the session of the relay that holds the lock, and return when `connection` holds it."""
    connection.execute("select set_config('lock_timeout', %s, false)", (f"{max(1, int(seconds_max * 1_000))}ms",))
    waiting = _Waiting(connection)
    waiting.start()
    try:
        with psycopg.connect(pod.relay_dsn, autocommit=True, application_name="tieout takeover") as looking:
            while waiting.is_waiting(LOOK_SECONDS):
                _end_holder(pod, looking, connection.info.backend_pid)
    except BaseException:
        waiting.give_up()
        raise
    waiting.check(pod)
    connection.execute("set lock_timeout = 0")


class _Waiting:
    """Waits for the lock in a thread, because PostgreSQL queues a session only while its statement waits."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._failure: psycopg.Error | None = None
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_waiting(self, seconds: float) -> bool:
        """Return whether the thread still waits after at most `seconds`."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def give_up(self) -> None:
        """Cancel the waiting statement."""
        self._connection.cancel_safe()
        self._thread.join()

    def check(self, pod: PodSettings) -> None:
        """Raise the error if the lock was not acquired; PostgreSQL's lock_timeout ends every wait."""
        if isinstance(self._failure, psycopg.errors.LockNotAvailable):
            raise RelayBusyError(f"The lock of pod {pod.pod} was not let go in time; somebody republishes: try later.")
        if self._failure is not None:
            raise self._failure

    def _wait(self) -> None:
        try:
            self._connection.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
        except psycopg.Error as error:
            self._failure = error


def _end_holder(pod: PodSettings, looking: psycopg.Connection[Any], own_pid: int) -> None:
    """Terminate the relay that holds the lock, once our session is queued behind it; never a republication."""
    sessions = looking.execute(SESSIONS, {"classid": RELAY_LOCK[0], "objid": RELAY_LOCK[1]}).fetchall()
    is_queued = any(pid == own_pid and not is_granted for pid, is_granted, _ in sessions)
    for pid, is_granted, name in sessions:
        # Two republications would write into the same new generation, so a running one must finish first.
        if is_queued and is_granted and not name.startswith(REPUBLISHING):
            try:
                looking.execute("select pg_terminate_backend(%s)", (pid,))
            except psycopg.errors.InsufficientPrivilege:
                raise RelayBusyError(
                    f"Pod {pod.pod} is published by a session of another role (server process {pid}), which only its "
                    "owner may end; stop it, then try again."
                ) from None
