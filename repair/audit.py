"""The audit of repairs: which run did what, to which keys, because of which breaks, and how it was before and after.

A row is written before anything is touched, and completed afterwards. So what a killed run was doing is seen: a row
that is not completed and whose lease is over is shown as interrupted. Rows are never deleted.

Belongs here: `trust.repair_runs`, `trust.repair_actions`. Does not belong here: breaks (`repair/ledger/recording.py`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from contracts.errors import TieoutError
from repair.ledger.tables import guard, ledger, reading
from repair.values import KEYS_KEPT, KEYS_SHOWN, Action

TABLES = """
create schema if not exists trust;
create table if not exists trust.repair_runs (
    run text primary key,
    pods text[] not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    outcome text check (outcome in ('done', 'failed', 'interrupted')),
    reason text not null default ''
);
create index if not exists repair_runs_unended on trust.repair_runs (started_at) where outcome is null;
create table if not exists trust.repair_actions (
    action_id bigint generated always as identity primary key,
    run text not null references trust.repair_runs,
    kind text not null,
    store text not null,
    pod text not null,
    keys text[] not null,
    key_count bigint not null,
    causes bigint[] not null,
    why text not null,
    before jsonb not null,
    after jsonb,
    started_at timestamptz not null,
    lease_until timestamptz not null,
    ended_at timestamptz,
    outcome text check (outcome in ('done', 'failed')),
    error text not null default '',
    check ((ended_at is null) = (outcome is null))
);
create index if not exists repair_actions_by_run on trust.repair_actions (run, action_id);
create index if not exists repair_actions_by_time on trust.repair_actions (started_at);
create index if not exists repair_actions_by_cause on trust.repair_actions using gin (causes);
alter table trust.repair_actions add column if not exists changed bigint;
alter table trust.repair_runs add column if not exists host text;
alter table trust.repair_runs add column if not exists process_id bigint;
alter table trust.repair_runs add column if not exists process_started double precision;
do $body$ begin
    if not exists (select from pg_constraint where conname = 'repair_runs_outcomes') then
        alter table trust.repair_runs drop constraint if exists repair_runs_outcome_check;
        alter table trust.repair_runs add constraint repair_runs_outcomes
        check (outcome in ('done', 'nothing_to_do', 'failed', 'interrupted'));
    end if;
end $body$;
comment on table trust.repair_runs is 'One row per repair; a run without outcome that nobody executes was interrupted.';
comment on table trust.repair_actions is
'What repairs did; keys are bounded, key_count is exact; no ended_at after lease_until: interrupted.';
"""

GUARDS = """
create trigger is_evidence before delete on trust.repair_actions
for each row execute function trust.refuse();
create trigger is_complete before update on trust.repair_actions
for each row when (old.ended_at is not null) execute function trust.refuse();
create trigger is_evidence_as_a_whole before truncate on trust.repair_actions
for each statement execute function trust.refuse();
create trigger is_evidence before delete on trust.repair_runs
for each row execute function trust.refuse();
create trigger is_evidence_as_a_whole before truncate on trust.repair_runs
for each statement execute function trust.refuse();
"""

BEGIN_RUN = """
insert into trust.repair_runs (run, pods, started_at, host, process_id, process_started)
values (%(run)s, %(pods)s, %(now)s, %(host)s, %(process_id)s, %(process_started)s)
"""
END_RUN = """
update trust.repair_runs set ended_at = %(now)s, outcome = %(outcome)s, reason = %(reason)s
where run = %(run)s and outcome is null
"""
UNENDED_RUNS = """
select run, pods, host, process_id, process_started from trust.repair_runs
where outcome is null and (%(pods)s::text[] is null or pods && %(pods)s::text[]) order by started_at, run
"""
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
BEGIN_ACTION = """
insert into trust.repair_actions (
    run, kind, store, pod, keys, key_count, causes, why, before, started_at, lease_until
)
values (
    %(run)s, %(kind)s, %(store)s, %(pod)s, %(keys)s, %(key_count)s, %(causes)s, %(why)s, %(before)s, %(now)s,
    %(lease_until)s
)
returning action_id
"""
END_ACTION = """
update trust.repair_actions
set after = %(after)s, ended_at = %(now)s, outcome = %(outcome)s, error = %(error)s, changed = %(changed)s
where action_id = %(action_id)s
"""
ACTIONS = """
select action_id, run, kind, store, pod, keys[:%(shown)s] as keys, key_count, causes, why, before, after, started_at,
       ended_at, error, changed,
       case when a.outcome = 'done' and a.changed = 0 then 'nothing_to_do'
            when a.outcome is not null then a.outcome
            when a.lease_until > %(now)s and r.run_outcome is null then 'running'
            else 'interrupted' end as outcome
from trust.repair_actions as a
join (select run, outcome as run_outcome from trust.repair_runs) as r using (run)
where (%(run)s::text is null or run = %(run)s)
  and (%(break_id)s::bigint is null or causes @> array[%(break_id)s::bigint])
order by action_id desc limit %(limit)s
"""
SINCE = "select count(*) as number from trust.repair_actions where started_at > %(since)s"

LOCK = "tieout repair"
SAME_PROCESS_SECONDS = 1.0
"""An id is given to another process sooner or later; the moment of its start tells them apart."""

_living: set[str] = set()
"""Runs that are at work in this process."""

LOST = (
    "The connection that held the lock of this repair was lost; it stops before anything else is written, and the next "
    "one goes on."
)


@dataclass(frozen=True, kw_only=True)
class HeldPods:
    """The pods that this session repairs alone."""

    pods: tuple[str, ...]
    connection: psycopg.Connection[Any]

    def check(self) -> None:
        """Raise TieoutError when the session was lost, and the locks with it; asked before each thing that is done."""
        try:
            self.connection.execute("select 1")
        except psycopg.Error:
            raise TieoutError(LOST) from None


@dataclass(frozen=True, kw_only=True)
class AuditedAction:
    """One action as it went."""

    action_id: int
    run: str
    kind: str
    store: str
    pod: str
    keys: tuple[str, ...]
    """The first ones."""
    key_count: int
    causes: tuple[int, ...]
    why: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    """`done`, `nothing_to_do`: all was right already, `failed`, `running`, or `interrupted`: its run was killed, and
    the next run does it again if it must."""
    error: str
    changed: int | None
    """How much it changed; None: nobody can tell, or it did not end."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as values that JSON can hold."""
        ended = None if self.ended_at is None else self.ended_at.isoformat()
        return {**vars(self), "started_at": self.started_at.isoformat(), "ended_at": ended}


def migrate(control_dsn: str) -> None:
    """Create the tables in the control database, if they are not there; those of the ledger are there before."""
    with ledger(control_dsn) as connection:
        connection.execute(TABLES)
        guard(connection, "trust.repair_actions", GUARDS)


@contextmanager
def holding_pods(control_dsn: str, pods: Sequence[str]) -> Iterator[HeldPods]:
    """Hold the repair of as many of these pods as nobody else repairs; yield which. One repair per pod at a time.

    The locks are those of a session: whoever is killed lets go of them at once. A run whose session was lost, but whose
    process lives, is not taken for one that was killed: its pods are not given to others.
    """
    with psycopg.connect(control_dsn, autocommit=True, application_name="tieout repair") as connection:
        held = []
        for pod in sorted(pods):
            row = connection.execute(
                "select pg_try_advisory_lock(hashtextextended(%s, 0))", (f"{LOCK} {pod}",)
            ).fetchone()
            if row is not None and row[0]:
                held.append(pod)
        alive = {pod for row in _unended(control_dsn, held) if _is_alive(row) for pod in row["pods"]}
        yield HeldPods(pods=tuple(pod for pod in held if pod not in alive), connection=connection)


def begin_run(control_dsn: str, run: str, pods: Sequence[str], now: datetime) -> None:
    """Note that a run begins in this process; it holds the pods."""
    me = psutil.Process()
    place = {"host": socket.gethostname(), "process_id": me.pid, "process_started": me.create_time()}
    with _writing(control_dsn) as connection:
        connection.execute(BEGIN_RUN, {"run": run, "pods": list(pods), "now": now, **place})


@contextmanager
def living(run: str) -> Iterator[None]:
    """Let other repairs in this process know that a run is at work; those in other processes look at the process."""
    _living.add(run)
    try:
        yield
    finally:
        _living.discard(run)


def end_run(control_dsn: str, run: str, outcome: str, now: datetime, reason: str = "") -> None:
    """Note how a run ended: `done`, `nothing_to_do`, `failed` or `interrupted`."""
    with _writing(control_dsn) as connection:
        connection.execute(END_RUN, {"run": run, "outcome": outcome, "now": now, "reason": reason})


def interrupted_runs(control_dsn: str, held_pods: Collection[str]) -> list[str]:
    """Return the runs over pods that the caller holds now, and that never ended: they were killed."""
    return [str(row["run"]) for row in _unended(control_dsn, held_pods) if not _is_alive(row)]


def abandoned_runs(control_dsn: str) -> list[str]:
    """Return the runs that never ended and that nobody executes: no process of theirs lives, nobody holds their pods.

    For those who only look; a repair that begins holds the pods itself and asks `interrupted_runs`.
    """
    with reading(control_dsn) as connection:
        rows = connection.execute(UNENDED_RUNS, {"pods": None}).fetchall()
        return [str(row["run"]) for row in rows if not _is_alive(row) and not _is_locked(connection, row["pods"])]


def _is_locked(connection: psycopg.Connection[dict[str, Any]], pods: Sequence[str]) -> bool:
    row = connection.execute(LOCKED, {"names": [f"{LOCK} {pod}" for pod in pods]}).fetchone()
    return row is not None and bool(row["is_locked"])


def _unended(control_dsn: str, pods: Collection[str]) -> list[dict[str, Any]]:
    with reading(control_dsn) as connection:
        return connection.execute(UNENDED_RUNS, {"pods": list(pods)}).fetchall()


def _is_alive(row: Mapping[str, Any]) -> bool:
    """Return whether the process of a run that has not ended is still at work; on another machine its lock tells."""
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


def begin_action(
    control_dsn: str, run: str, action: Action, before: Mapping[str, Any], *, now: datetime, lease_seconds: float
) -> int:
    """Write down what is going to be done and how it is before; return the row's id."""
    bound = {
        "run": run,
        "kind": action.kind.value,
        "store": action.store,
        "pod": action.pod,
        "keys": list(action.keys[:KEYS_KEPT]),
        "key_count": len(action.keys),
        "causes": list(action.causes),
        "why": action.why,
        "before": Jsonb(dict(before)),
        "now": now,
        "lease_until": now + timedelta(seconds=lease_seconds),
    }
    with _writing(control_dsn) as connection:
        row = connection.execute(BEGIN_ACTION, bound).fetchone()
    if row is None:
        raise TieoutError("The audit row of a repair could not be written; nothing was done.")
    return int(row["action_id"])


def end_action(
    control_dsn: str,
    action_id: int,
    *,
    now: datetime,
    after: Mapping[str, Any] | None = None,
    changed: int | None = None,
    error: str = "",
) -> None:
    """Complete a row: how it is after and how much was changed (None: nobody can tell), or why it could not be done."""
    bound = {
        "changed": changed,
        "action_id": action_id,
        "after": None if after is None else Jsonb(dict(after)),
        "now": now,
        "outcome": "failed" if error else "done",
        "error": error,
    }
    with _writing(control_dsn) as connection:
        if connection.execute(END_ACTION, bound).rowcount != 1:
            raise TieoutError(f"The audit row {action_id} of a repair is gone: somebody has deleted evidence.")


def actions(
    control_dsn: str, *, now: datetime, run: str | None = None, break_id: int | None = None, limit: int = 1_000
) -> list[AuditedAction]:
    """Return what was done, the newest first: by one run, because of one break, or at all."""
    bound = {"now": now, "run": run, "break_id": break_id, "limit": limit, "shown": KEYS_SHOWN}
    with reading(control_dsn) as connection:
        rows = connection.execute(ACTIONS, bound).fetchall()
    return [AuditedAction(**{**row, "keys": tuple(row["keys"]), "causes": tuple(row["causes"])}) for row in rows]


def actions_since(control_dsn: str, moment: datetime) -> int:
    """Return how many actions were begun after `moment`, by all runs."""
    with reading(control_dsn) as connection:
        row = connection.execute(SINCE, {"since": moment}).fetchone()
    return 0 if row is None else int(row["number"])


@contextmanager
def _writing(control_dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        yield connection
