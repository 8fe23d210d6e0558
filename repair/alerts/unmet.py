"""Expectations that are not met: which, since when, and the alerts about them.

An unmet expectation is not a break: no two stores differ, and code cannot repair it. People are alerted when it is
found and when it is met again; one message covers all expectations of a run of suites. An expectation that is only a
warning is in the table and in its check, and in a message only together with critical ones. When a suite could not be
run twice in a row, people are alerted, too.

Belongs here: the table `trust.unmet_expectations` and its messages. Does not belong here: suites and running them
(`checks/expectations/`), breaks (`repair/ledger/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from contracts.text import counted
from repair.alerts.deciding import AlertKind
from repair.alerts.queue import Message, write_in
from repair.alerts.texts import more
from repair.ledger.schema import ledger

NOT_LOOKED_AT = "(could not be looked at)"
"""Name of the expectation when a suite could not be run."""
UNKNOWN_TOLD_AFTER = 2
SHOWN = 20

TABLES = """
create schema if not exists trust;
create table if not exists trust.unmet_expectations (
    suite text not null,
    pod text not null,
    expectation text not null,
    statement text not null,
    is_critical boolean not null,
    rows_found bigint not null,
    keys text[] not null,
    page text not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    times_seen bigint not null check (times_seen >= 1),
    told_at timestamptz,
    ended_at timestamptz
);
create unique index if not exists unmet_expectations_open on trust.unmet_expectations (suite, pod, expectation)
    where ended_at is null;
comment on table trust.unmet_expectations is 'Expectations of data quality that did not hold; ended_at: they do again.';
"""
COLUMNS = (
    "suite, pod, expectation, statement, is_critical, rows_found, keys, page, first_seen_at, last_seen_at, times_seen, "
    "told_at, ended_at"
)
SEE = """
insert into trust.unmet_expectations as open (
    suite, pod, expectation, statement, is_critical, rows_found, keys, page, first_seen_at, last_seen_at, times_seen
)
values (
    %(suite)s, %(pod)s, %(expectation)s, %(statement)s, %(is_critical)s, %(rows_found)s, %(keys)s, %(page)s, %(now)s,
    %(now)s, 1
)
on conflict (suite, pod, expectation) where ended_at is null do update set
    statement = excluded.statement, is_critical = excluded.is_critical, rows_found = excluded.rows_found,
    keys = excluded.keys, page = excluded.page, last_seen_at = excluded.last_seen_at, times_seen = open.times_seen + 1
"""
END = f"""
update trust.unmet_expectations set ended_at = %(now)s
where ended_at is null and suite = %(suite)s and pod = %(pod)s and last_seen_at < %(now)s
  and %(is_known)s
returning {COLUMNS}
"""
TO_TELL = f"""
select {COLUMNS} from trust.unmet_expectations
where ended_at is null and told_at is null
  and (times_seen >= %(unknown_after)s or expectation <> %(not_looked_at)s)
order by is_critical desc, suite, pod, expectation
"""


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """An expectation that does not hold in a pod."""

    suite: str
    """Name of the suite, with its store, e.g. `marts.journal`."""
    pod: str
    expectation: str
    statement: str
    is_critical: bool
    rows_found: int
    keys: Sequence[str]
    page: str
    """Its page in Data Docs."""
    first_seen_at: datetime
    last_seen_at: datetime
    times_seen: int
    told_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An expectation that a run found unmet."""

    expectation: str
    statement: str
    is_critical: bool
    rows: int
    keys: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A suite that was run in a pod, or that could not be run."""

    suite: str
    pod: str
    page: str
    seen: Sequence[Seen]
    is_known: bool
    """Whether the whole suite was run; if not, no expectation counts as met again."""


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it is not there."""
    with ledger(control_dsn) as connection:
        connection.execute(TABLES)


def record(control_dsn: str, looked: Iterable[Looked], *, run: str, now: datetime) -> int:
    """Record the results of a run and write the messages that are due, in one transaction; return their number."""
    with ledger(control_dsn) as connection:
        ended = [row for suite in looked for row in _record_suite(connection, suite, now)]
        cursor = connection.cursor(row_factory=class_row(Unmet))
        bound = {"unknown_after": UNKNOWN_TOLD_AFTER, "not_looked_at": NOT_LOOKED_AT}
        new = cursor.execute(TO_TELL, bound).fetchall()
        over = [row for row in ended if row.told_at is not None]
        messages = []
        if any(row.is_critical for row in new):
            messages.append(unmet_message(new, run))
            connection.execute(
                "update trust.unmet_expectations set told_at = %s where ended_at is null and told_at is null "
                "and (suite, pod, expectation) in (select * from unnest(%s::text[], %s::text[], %s::text[]))",
                (now, [row.suite for row in new], [row.pod for row in new], [row.expectation for row in new]),
            )
        if over:
            messages.append(met_message(over, run))
        return write_in(connection, messages, now)


def _record_suite(connection: psycopg.Connection[Any], looked: Looked, now: datetime) -> list[Unmet]:
    for seen in looked.seen:
        connection.execute(
            SEE,
            {
                "suite": looked.suite,
                "pod": looked.pod,
                "expectation": seen.expectation,
                "statement": seen.statement,
                "is_critical": seen.is_critical,
                "rows_found": seen.rows,
                "keys": list(seen.keys),
                "page": looked.page,
                "now": now,
            },
        )
    bound = {"suite": looked.suite, "pod": looked.pod, "now": now, "is_known": looked.is_known}
    return connection.cursor(row_factory=class_row(Unmet)).execute(END, bound).fetchall()


def unmet(control_dsn: str) -> list[Unmet]:
    """Return the expectations that do not hold now, the oldest first."""
    query = f"select {COLUMNS} from trust.unmet_expectations where ended_at is null order by first_seen_at, suite, pod"
    with psycopg.connect(control_dsn, row_factory=class_row(Unmet)) as connection:
        return connection.execute(query.encode()).fetchall()


def unmet_message(new: Sequence[Unmet], run: str) -> Message:
    """Return the message that expectations do not hold; it contains keys, but no other value of a row."""
    found = counted(len(new), "expectation does", "expectations do")
    suites = sorted({f"{row.suite} in {row.pod}" for row in new})
    lines = [
        f"{found} not hold: {', '.join(suites[:SHOWN])}{_more(len(suites))}.",
        "",
        *(line for row in new[:SHOWN] for line in _shown(row)),
        *more(len(new) - SHOWN),
        "",
        "No copy is repaired for it: a rule about the rows themselves is broken. People decide; nothing changes by "
        "itself. A message says when all of it holds again.",
        "Still holds for users: everything that is served; selling, paying and shipping go on.",
        "Look: tieout status; the check of the suite in Dagster.",
        "Runbook: docs/runbooks/expectations.md",
    ]
    title = f"[Tieout] Not as expected: {found} not hold, {suites[0]}{_more(len(suites), 1)}"
    return Message(kind=AlertKind.UNMET, title=title, body="\n".join(lines), subject=run)


def met_message(over: Sequence[Unmet], run: str) -> Message:
    """Return the message that expectations hold again."""
    lines = [
        "These hold again:",
        *(
            f"- {row.suite} in {row.pod}: {row.expectation}, since {row.first_seen_at:%Y-%m-%d %H:%M} UTC"
            for row in over[:SHOWN]
        ),
        *more(len(over) - SHOWN),
    ]
    title = f"[Tieout] As expected again: {counted(len(over), 'expectation holds', 'expectations hold')}"
    return Message(kind=AlertKind.MET, title=title, body="\n".join(lines), subject=run)


def _shown(row: Unmet) -> list[str]:
    if row.expectation == NOT_LOOKED_AT:
        return [f"- {row.suite} in {row.pod} could not be looked at {counted(row.times_seen, 'time')}: {row.statement}"]
    keys = f": {'; '.join(row.keys[:5])}" if row.keys else ""
    return [
        f"- {row.suite} in {row.pod}, {row.expectation}: {row.statement}",
        f"  {counted(row.rows_found, 'row')}{keys}",
        f"  {row.page}",
    ]


def _more(number: int, shown: int = SHOWN) -> str:
    return f" and {number - shown:,} more" if number > shown else ""
