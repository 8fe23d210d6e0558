"""Connects the ledger of breaks with comparisons: plans what the next one compares, and records the last one.

Belongs here: planning incremental runs, and recording results in the ledger first and in the coverage afterwards. Does
not belong here: the sweep's arithmetic and table (`reconcile/`), what a result does to breaks
(`repair/ledger/recording.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from contracts.clock import Clock, utc_now
from contracts.verdicts import PairResult
from reconcile.coverage import keep_coverage, read_coverage
from reconcile.pair import Sweep
from reconcile.pairs import pairs_named
from reconcile.sweep import SeenKeys, SweepPlan, narrowed, planned
from repair.ledger import Recorded, record
from repair.ledger.schema import reading

NOTHING_SEEN = SeenKeys(ids=frozenset())
SUSPECTS = "select pair, aggregate_key from trust.breaks where pod = %(pod)s and ended_at is null"


def plans_for(
    control_dsn: str,
    pods: Collection[str],
    pairs: Collection[str] | None,
    now: datetime,
    *,
    seen: Mapping[str, SeenKeys] | None = None,
    absent: Collection[str] = (),
) -> dict[str, SweepPlan]:
    """Return pod -> plan of an incremental comparison of these pairs; without a plan, everything is compared.

    With `seen` (pod -> what witnesses or a repair named) the comparison looks at this and at what has breaks, and at
    nothing else. `absent` are the copies that this system does not have.
    """
    chosen = [pair for pair in pairs_named(pairs) if pair.sweep is not Sweep.WHOLE and pair.copy not in absent]
    coverages = read_coverage(control_dsn, [pair.name for pair in chosen])
    of_cuts = [pair.name for pair in chosen if pair.sweep is Sweep.CUTS]
    plans = {}
    for pod in pods:
        suspects = _suspects(control_dsn, pod, [pair.name for pair in chosen])
        plan = planned([coverages.get((pair.name, pod)) for pair in chosen], suspects, of_cuts, now)
        if plan is not None:
            plans[pod] = plan if seen is None else narrowed(plan, seen.get(pod, NOTHING_SEEN))
    return plans


def _suspects(control_dsn: str, pod: str, pairs: Collection[str]) -> dict[str, set[str | None]]:
    """Return pair -> aggregate ids of its unended breaks; None in it stands for a break without aggregate."""
    found: dict[str, set[str | None]] = {}
    with reading(control_dsn) as connection:
        for row in connection.execute(SUSPECTS, {"pod": pod}):
            key = row["aggregate_key"]
            if row["pair"] in pairs:
                found.setdefault(row["pair"], set()).add(None if key is None else str(key).split("/", 2)[2])
    return found


def take_in(control_dsn: str, results: Sequence[PairResult], *, run: str, clock: Clock = utc_now) -> Recorded:
    """Record results in the ledger of breaks, then record the coverage of those that count."""
    recorded = record(control_dsn, results, run=run, clock=clock)
    counted = set(recorded.taken_in)
    keep_coverage(control_dsn, [result for result in results if (result.pair, result.pod) in counted])
    return recorded
