"""The table of drills: which cell was drilled, when, with which code version, and whether it held.

Belongs here: `trust.drills` in the control database of the system that ordered the drill. Does not belong here: the
observations (files, `drills/evidence_files.py`), how old a proof may be (`contracts/drills.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from drills.observing import Outcome
from repair.ledger.schema import ledger

TABLE = """
create schema if not exists trust;
create table if not exists trust.drills (
    drill_id bigint generated always as identity primary key,
    run text not null,
    system text not null,
    test text not null,
    code_version text not null,
    started_at timestamptz not null,
    ended_at timestamptz not null,
    seconds_broken double precision not null,
    has_held boolean not null,
    observations integer not null,
    problems text[] not null,
    evidence text not null,
    unique (run, system, test),
    check (ended_at >= started_at),
    check (has_held = (cardinality(problems) = 0))
);
create index if not exists drills_by_cell on trust.drills (system, test, ended_at desc);
comment on table trust.drills is 'One row per drill that was run; evidence is the file that holds its observations.';
"""
INSERT = """
insert into trust.drills (
    run, system, test, code_version, started_at, ended_at, seconds_broken, has_held, observations, problems, evidence
)
values (
    %(run)s, %(system)s, %(test)s, %(code_version)s, %(started_at)s, %(ended_at)s, %(seconds_broken)s, %(has_held)s,
    %(observations)s, %(problems)s, %(evidence)s
)
"""
COLUMNS = (
    "run, system, test, code_version, started_at, ended_at, seconds_broken, has_held, observations, problems, evidence"
)
NEWEST = f"""
select distinct on (system, test) {COLUMNS} from trust.drills
order by system, test, ended_at desc, drill_id desc
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The record of one drill."""

    run: str
    system: str
    test: str
    code_version: str
    started_at: datetime
    ended_at: datetime
    seconds_broken: float
    has_held: bool
    observations: int
    problems: list[str]
    evidence: str
    """The path of the file with its observations."""


def migrate(control_dsn: str) -> None:
    """Create the table in the control database if it does not exist."""
    with ledger(control_dsn) as connection:
        connection.execute(TABLE)


def record(control_dsn: str, outcome: Outcome, *, run: str, code_version: str, evidence: str) -> None:
    """Insert one outcome; a cell is recorded once per run."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute(
            INSERT,
            {
                "run": run,
                "system": outcome.system,
                "test": outcome.test,
                "code_version": code_version,
                "started_at": outcome.started_at,
                "ended_at": outcome.ended_at,
                "seconds_broken": outcome.seconds_broken,
                "has_held": outcome.has_held,
                "observations": len(outcome.observations),
                "problems": list(outcome.problems),
                "evidence": evidence,
            },
        )


def newest_proofs(control_dsn: str) -> list[Proof]:
    """Return the newest drill of every recorded cell."""
    with psycopg.connect(control_dsn) as connection, connection.cursor(row_factory=class_row(Proof)) as cursor:
        return cursor.execute(NEWEST).fetchall()
