"""Where the seconds between finding and proving went: by the ledger's history, the audit, and the steps of each run.

Belongs here: reading these records, and adding them up. Does not belong here: the times of a damage
(`bench/looking.py`), running anything.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import psycopg

from contracts.breaks import Break
from contracts.settings import Settings

MOMENTS = """
select b.break_id,
       (select min(h.at) from trust.break_history as h where h.break_id = b.break_id) as stored_at,
       (select max(h.at) from trust.break_history as h
        where h.break_id = b.break_id and h.to_state = 'repairing' and h.at <= coalesce(b.ended_at, 'infinity')),
       (select max(a.ended_at) from trust.repair_actions as a
        where a.causes @> array[b.break_id] and a.ended_at <= coalesce(b.ended_at, 'infinity'))
from trust.breaks as b where b.break_id = any(%(break_ids)s)
"""
STEPS = "select steps from trust.repair_runs where outcome is not null and steps is not null order by started_at"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """When something was done about a break; None: not yet, or never."""

    stored_at: datetime
    claimed_at: datetime | None
    """By the last repair that took it on."""
    mended_at: datetime | None
    """When the last action for it ended before it was proven."""


def moments_of(settings: Settings, break_ids: Collection[int]) -> dict[int, Moments]:
    """Return break id -> its moments."""
    with psycopg.connect(settings.control_dsn) as connection:
        rows = connection.execute(MOMENTS, {"break_ids": list(break_ids)}).fetchall()
    return {row[0]: Moments(stored_at=row[1], claimed_at=row[2], mended_at=row[3]) for row in rows}


def phases_of(breaks: Sequence[Break], moments: Mapping[int, Moments]) -> dict[str, float]:
    """Return phase -> its seconds, for the break of a damage that was proven last."""
    ended = [(item.ended_at, item) for item in breaks if item.ended_at is not None]
    if not ended:
        return {}
    proven_at, last = max(ended, key=lambda one: one[0])
    known = moments[last.break_id]
    first = min(item.first_seen_at for item in breaks)
    reached = [
        ("found by its last pair", last.first_seen_at),
        ("stored", known.stored_at),
        ("claimed", known.claimed_at),
        ("mended", known.mended_at),
        ("proven", proven_at),
    ]
    phases, before = {}, first
    for name, at in reached:
        if at is not None:
            phases[name] = (at - before).total_seconds()
            before = at
    return phases


def steps_of_runs(settings: Settings) -> list[tuple[str, int, float, float]]:
    """Return (step, runs, median and longest seconds from the step before), the step with the most seconds first."""
    with psycopg.connect(settings.control_dsn) as connection:
        runs = [row[0] for row in connection.execute(STEPS).fetchall()]
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for steps in runs:
        for (_, before), (step, at) in pairwise([("", 0.0), *map(tuple, steps)]):
            taken[step].append(at - before)
    rows = [(step, len(some), statistics.median(some), max(some)) for step, some in taken.items()]
    return sorted(rows, key=lambda row: -row[1] * row[2])
