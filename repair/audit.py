"""The audit of repairs: which run did what, to which keys, because of which breaks, and the state before and after.

A row is written before an action changes anything, and completed afterwards. So the audit also shows what a killed run
was doing: a row that is not completed and whose lease is over is shown as interrupted. Rows are never deleted.

Belongs here: `trust.repair_runs`, `trust.repair_actions`. Does not belong here: breaks (`repair/ledger/recording.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from contracts.errors import TieoutError
from repair.ledger.schema import guard, ledger, reading
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
alter table trust.repair_runs add column if not exists gave_back_at timestamptz;
alter table trust.repair_runs add column if not exists steps jsonb;
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
update trust.repair_runs set ended_at = %(now)s, outcome = %(outcome)s, reason = %(reason)s, steps = %(steps)s
where run = %(run)s and outcome is null
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

Step = tuple[str, float]
"""A step of a run, and after how many seconds it was reached."""


@dataclass(frozen=True, kw_only=True)
class AuditedAction:
    """One action as the audit has it."""

    action_id: int
    run: str
    kind: str
    store: str
    pod: str
    keys: tuple[str, ...]
    """The first KEYS_SHOWN keys."""
    key_count: int
    causes: tuple[int, ...]
    why: str
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    """`done`, `nothing_to_do` (everything was already right), `failed`, `running`, or `interrupted` (its run was
    killed; the next run repeats it if that is necessary).
    """
    error: str
    changed: int | None
    """Number of changed rows, events, cuts or aggregates; None: it is not known, or the action did not end."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as values that JSON can hold."""
        ended = None if self.ended_at is None else self.ended_at.isoformat()
        return {**vars(self), "started_at": self.started_at.isoformat(), "ended_at": ended}


def migrate(control_dsn: str) -> None:
    """Create the tables in the control database, if they do not exist; the ledger's tables must exist."""
    with ledger(control_dsn) as connection:
        connection.execute(TABLES)
        guard(connection, "trust.repair_actions", GUARDS)


def begin_run(control_dsn: str, run: str, pods: Sequence[str], now: datetime) -> None:
    """Record that a run begins in this process. The caller holds the locks of the pods."""
    me = psutil.Process()
    place = {"host": socket.gethostname(), "process_id": me.pid, "process_started": me.create_time()}
    with _writing(control_dsn) as connection:
        connection.execute(BEGIN_RUN, {"run": run, "pods": list(pods), "now": now, **place})


def end_run(
    control_dsn: str, run: str, outcome: str, now: datetime, reason: str = "", *, steps: Sequence[Step] = ()
) -> None:
    """Record how a run ended (`done`, `nothing_to_do`, `failed` or `interrupted`), and the steps that it reached."""
    bound = {"run": run, "outcome": outcome, "now": now, "reason": reason, "steps": Jsonb(list(steps))}
    with _writing(control_dsn) as connection:
        connection.execute(END_RUN, bound)


def begin_action(
    control_dsn: str, run: str, action: Action, before: Mapping[str, Any], *, now: datetime, lease_seconds: float
) -> int:
    """Record an action before it is executed, with the state before; return the row's id."""
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
    """Complete a row with the state after and the number of changes (None: not known), or with the error."""
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
    """Return actions, the newest first: of one run, because of one break, or all."""
    bound = {"now": now, "run": run, "break_id": break_id, "limit": limit, "shown": KEYS_SHOWN}
    with reading(control_dsn) as connection:
        rows = connection.execute(ACTIONS, bound).fetchall()
    return [AuditedAction(**{**row, "keys": tuple(row["keys"]), "causes": tuple(row["causes"])}) for row in rows]


def actions_since(control_dsn: str, moment: datetime) -> int:
    """Return the number of actions that all runs began after `moment`."""
    with reading(control_dsn) as connection:
        row = connection.execute(SINCE, {"since": moment}).fetchone()
    return 0 if row is None else int(row["number"])


@contextmanager
def _writing(control_dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(control_dsn, row_factory=dict_row) as connection:
        yield connection
