"""The table of figures in the control database: the totals of operations and finance at the cut of a comparison.

Belongs here: that table. Does not belong here: computing figures (`reconcile/figures.py`), verdicts
(`reconcile/results.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from contracts.verdicts import PairResult, Verdict
from reconcile.figures import Figure
from reconcile.pairs import PAIRS

TABLES = """
create schema if not exists reconcile;
create table if not exists reconcile.figures (
    figures_id bigint generated always as identity primary key,
    pod text not null,
    cut bigint not null,
    compared_at timestamptz not null default now(),
    figures jsonb not null
);
create index if not exists figures_at on reconcile.figures (pod, cut, figures_id desc);
comment on table reconcile.figures is
    'One row per pod and comparison: the totals of operations and finance by currency at its cut.';
"""
LOCK = 0x666967757265
"""Advisory lock of the migration, so that two processes do not create the same table at once."""

INSERT = "insert into reconcile.figures (pod, cut, figures) values (%(pod)s, %(cut)s, %(figures)s)"
AT = """
select figures from reconcile.figures where pod = %(pod)s and cut = %(cut)s order by figures_id desc limit 1
"""
PRUNE = """
delete from reconcile.figures as old
where compared_at < %(before)s and exists (
    select from reconcile.figures as newer where newer.pod = old.pod and newer.figures_id > old.figures_id
)
"""


def migrate(control_dsn: str) -> None:
    """Create the table in the control database, if it is not there."""
    with psycopg.connect(control_dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(TABLES)


def save_figures(control_dsn: str, figures: Sequence[Figure], *, cuts: Mapping[str, int] | None = None) -> None:
    """Store the figures of one comparison in one transaction.

    `cuts` (pod -> cut) names the pods whose figures were computed, so that a pod without figures is stored, too.
    """
    found: dict[tuple[str, int | None], list[Figure]] = {(pod, cut): [] for pod, cut in (cuts or {}).items()}
    for figure in figures:
        found.setdefault((figure.pod, figure.cut), []).append(figure)
    with psycopg.connect(control_dsn) as connection:
        for (pod, cut), of_pod in sorted(found.items()):
            values = [_value(figure) for figure in of_pod]
            connection.execute(INSERT, {"pod": pod, "cut": cut, "figures": Jsonb(values)})


def figured_cuts(results: Sequence[PairResult]) -> dict[str, int]:
    """Return pod -> cut of the results with which figures were computed."""
    names = {pair.name for pair in PAIRS if pair.has_figures}
    answered = (Verdict.CONSISTENT, Verdict.INCONSISTENT)
    return {
        result.pod: result.cut
        for result in results
        if result.pair in names and result.cut is not None and (result.verdict in answered or result.compared)
    }


def figures_at(control_dsn: str, pod: str, cut: int) -> list[Figure] | None:
    """Return a pod's figures of the newest comparison at a cut; None when none were stored."""
    with psycopg.connect(control_dsn) as connection:
        row = connection.execute(AT, {"pod": pod, "cut": cut}).fetchone()
    return None if row is None else [Figure(pod=pod, cut=cut, **value) for value in row[0]]


def prune_figures(control_dsn: str, before: datetime) -> int:
    """Delete figures older than `before`, but never the newest of a pod; return the number of deleted rows."""
    with psycopg.connect(control_dsn) as connection:
        return connection.execute(PRUNE, {"before": before}).rowcount


def _value(figure: Figure) -> dict[str, Any]:
    return {name: getattr(figure, name) for name in ("currency", "name", "operational", "finance")}
