"""Which run of repairs holds which pods, and which runs are dead: by locks, and by the process of each run.

A pod is repaired by one run at a time. A run that has nothing left to do but to build gives its pods back, and holds a
lock of its own. Belongs here: these locks. Does not belong here: what a run did (`repair/audit.py`), claims of breaks
(`repair/ledger/states.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psutil
import psycopg

from contracts.errors import TieoutError
from repair.ledger.schema import reading

UNENDED_RUNS = """
select run, pods, host, process_id, process_started, gave_back_at from trust.repair_runs
where outcome is null and (%(pods)s::text[] is null or pods && %(pods)s::text[]) order by started_at, run
"""
GIVE_BACK = "update trust.repair_runs set gave_back_at = clock_timestamp() where run = %s"
TAKE_AGAIN = "update trust.repair_runs set gave_back_at = null where run = %s"
GAVE_BACK = "select run from trust.repair_runs where outcome is null and gave_back_at is not null"
LOCKED = """
select exists (
    select from pg_locks
    where locktype = 'advisory' and objsubid = 1
      and database = (select oid from pg_database where datname = current_database())
      and ((classid::bigint << 32) | objid::bigint) in (
          select hashtextextended(name, 0) from unnest(%(names)s::text[]) as name
      )
) as is_locked
"""
LOCK = "tieout repair"
TRY_LOCK = "select pg_try_advisory_lock(hashtextextended(%s, 0))"
RELEASE_LOCK = "select pg_advisory_unlock(hashtextextended(%s, 0))"
SAME_PROCESS_SECONDS = 1.0
"""Tolerance in start times. Process ids are reused, so we identify a process by its id and start time."""


_living: set[str] = set()
"""Runs that are being executed in this process."""

LOST = (
    "The connection that held the lock of this repair was lost; it stops before anything else is written, and the next "
    "one goes on."
)


@dataclass(kw_only=True)
class HeldPods:
    """The pods whose repair locks this session holds."""

    pods: tuple[str, ...]
    connection: psycopg.Connection[Any]
    is_given_back: bool = False

    def check(self) -> None:
        """Raise TieoutError when the session, and so its locks, are lost; called before each action."""
        try:
            self.connection.execute("select 1")
        except psycopg.Error:
            raise TieoutError(LOST) from None

    def give_back(self, run: str) -> None:
        """Let other runs repair the pods; from now on this run only builds and compares, and writes to no other copy.

        It holds a lock of its own, so that others see whether it lives. Does nothing when they were given back before.
        """
        if self.is_given_back:
            return
        self._execute(_own_lock(run), TRY_LOCK)
        self._execute(run, GIVE_BACK)
        for pod in self.pods:
            self._execute(f"{LOCK} {pod}", RELEASE_LOCK)
        self.is_given_back = True

    def take_again(self, run: str) -> bool:
        """Take the pods that were given back, if no other run has one of them; return whether that is so."""
        taken = [pod for pod in self.pods if self._execute(f"{LOCK} {pod}", TRY_LOCK)]
        if len(taken) == len(self.pods):
            self._execute(run, TAKE_AGAIN)
            self.is_given_back = False
            return True
        for pod in taken:
            self._execute(f"{LOCK} {pod}", RELEASE_LOCK)
        return False

    def _execute(self, name: str, statement: LiteralString) -> bool:
        try:
            cursor = self.connection.execute(statement, (name,))
            return bool(cursor.description and (row := cursor.fetchone()) and row[0])
        except psycopg.OperationalError:
            raise TieoutError(LOST) from None


@contextmanager
def holding_pods(control_dsn: str, pods: Sequence[str]) -> Iterator[HeldPods]:
    """Acquire the repair locks of those of these pods that no other run repairs; yield them.

    The locks are session-level advisory locks, so PostgreSQL releases them at once when the process is killed. When a
    run has lost its session but its process is still alive, its pods are left out.
    """
    with psycopg.connect(control_dsn, autocommit=True, application_name="tieout repair") as connection:
        held = []
        for pod in sorted(pods):
            row = connection.execute(TRY_LOCK, (f"{LOCK} {pod}",)).fetchone()
            if row is not None and row[0]:
                held.append(pod)
        holders = [row for row in _unended(control_dsn, held) if row["gave_back_at"] is None]
        alive = {pod for row in holders if _is_alive(row) for pod in row["pods"]}
        yield HeldPods(pods=tuple(pod for pod in held if pod not in alive), connection=connection)


@contextmanager
def living(run: str) -> Iterator[None]:
    """Mark a run as being executed, for other repairs in this process; other processes check the process id."""
    _living.add(run)
    try:
        yield
    finally:
        _living.discard(run)


def interrupted_runs(control_dsn: str, held_pods: Collection[str]) -> list[str]:
    """Return the runs over the pods that the caller holds that never ended and were killed."""
    with reading(control_dsn) as connection:
        rows = connection.execute(UNENDED_RUNS, {"pods": list(held_pods)}).fetchall()
        dead = [row for row in rows if not _is_alive(row)]
        return [str(row["run"]) for row in dead if row["gave_back_at"] is None or not _is_locked(connection, row)]


def abandoned_runs(control_dsn: str) -> list[str]:
    """Return the unended runs that no process executes: their process is dead, and their pods' locks are free.

    It is for readers without locks; a repair holds the pods' locks itself and calls `interrupted_runs`.
    """
    with reading(control_dsn) as connection:
        rows = connection.execute(UNENDED_RUNS, {"pods": None}).fetchall()
        return [str(row["run"]) for row in rows if not _is_alive(row) and not _is_locked(connection, row)]


def runs_without_pods(control_dsn: str) -> list[str]:
    """Return the unended runs that have given their pods back and still build."""
    with reading(control_dsn) as connection:
        return [str(row["run"]) for row in connection.execute(GAVE_BACK)]


def _own_lock(run: str) -> str:
    return f"{LOCK} of {run}"


def _is_locked(connection: psycopg.Connection[dict[str, Any]], row: Mapping[str, Any]) -> bool:
    """Return whether somebody holds a lock that a run holds while it lives."""
    names = [f"{LOCK} {pod}" for pod in row["pods"]] if row["gave_back_at"] is None else [_own_lock(row["run"])]
    found = connection.execute(LOCKED, {"names": names}).fetchone()
    return found is not None and bool(found["is_locked"])


def _unended(control_dsn: str, pods: Collection[str]) -> list[dict[str, Any]]:
    with reading(control_dsn) as connection:
        return connection.execute(UNENDED_RUNS, {"pods": list(pods)}).fetchall()


def _is_alive(row: Mapping[str, Any]) -> bool:
    """Return whether the process of an unended run is alive; False for another machine: only its lock can tell."""
    if row["process_id"] is None or row["host"] != socket.gethostname():
        return False
    if row["process_id"] == os.getpid():
        return row["run"] in _living
    try:
        process = psutil.Process(row["process_id"])
        is_same = abs(process.create_time() - row["process_started"]) < SAME_PROCESS_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
