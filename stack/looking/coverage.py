"""Since when everything was compared at least once, per pair and pod.

Belongs here: that answer as values and in a sentence. Does not belong here: comparing, or the sweep (`reconcile/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from contracts.clock import utc_now
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.settings import Settings
from contracts.text import counted
from reconcile.coverage import read_coverage
from reconcile.pairs import pairs_of
from reconcile.rounds import Round
from reconcile.sweep import Coverage


def read_line(values: Settings) -> tuple[str, bool]:
    """Return the present coverage in one line, and whether a comparison is later than the stated time."""
    found, now = read_coverage(values.control_dsn), utc_now()
    line = coverage_line(list(found.values()), len(never_compared(values, found)), now)
    return line, any(one.is_behind(now) for one in found.values())


def never_compared(values: Settings, found: dict[tuple[str, str], Coverage]) -> list[tuple[str, str]]:
    """Return the pairs and pods that have had no complete comparison yet."""
    return [
        (pair.name, pod.pod) for pair in pairs_of(values) for pod in values.pods if (pair.name, pod.pod) not in found
    ]


def coverage_json(found: Sequence[Coverage], missing: Sequence[tuple[str, str]], now: datetime) -> dict[str, Any]:
    """Return the coverage as values that JSON can hold."""
    return {
        "sweep_seconds_max": SWEEP_SECONDS_MAX,
        "pairs": [
            {
                "pair": one.pair,
                "pod": one.pod,
                "everything_compared_since": one.oldest.compared_at.isoformat(),
                "at_or_after_cut": one.lowest_cut,
                "changes_compared_through_cut": one.cut,
                "newest_at": one.newest_at.isoformat(),
                "parts": len(one.parts),
                "oldest_part": vars(one.oldest.keys),
                "is_behind": one.is_behind(now),
            }
            for one in found
        ],
        "never_compared": [{"pair": pair, "pod": pod} for pair, pod in missing],
    }


def coverage_line(found: Sequence[Coverage], missing: int, now: datetime) -> str:
    """Return one line: since when everything was compared at least once."""
    if not found:
        return "Coverage: nothing was compared completely yet; run `tieout reconcile`."
    oldest = min(found, key=lambda one: one.oldest.compared_at)
    hours = SWEEP_SECONDS_MAX / 3600
    behind = sum(one.is_behind(now) for one in found)
    late = (
        f"; {counted(behind, 'comparison is', 'comparisons are')} behind the sweep's {hours:g} h, see `tieout coverage`"
        if behind
        else ""
    )
    never = f"; {counted(missing, 'comparison was', 'comparisons were')} never made completely" if missing else ""
    return (
        f"Coverage: everything was compared at least once since {oldest.oldest.compared_at:%Y-%m-%d %H:%M:%S} UTC "
        f"(stated: within {hours:g} h){late}{never}."
    )


def rounds_json(rounds: Mapping[str, Round]) -> list[dict[str, Any]]:
    """Return the newest round of each kind as values that JSON can hold; empty when no reconciler has run."""
    return [
        {**vars(one), "began_at": one.began_at.isoformat(), "ended_at": one.ended_at.isoformat()}
        for one in rounds.values()
    ]


def rounds_said(rounds: Mapping[str, Round], now: datetime) -> list[str]:
    """Return a line per kind of round: when the newest ended, what it took, and what it could not do."""
    lines = []
    for one in sorted(rounds.values(), key=lambda one: one.kind):
        seconds = (one.ended_at - one.began_at).total_seconds()
        rotation = f", {one.swept_share:.1%} of all keys swept" if one.swept_share else ""
        trouble = f"; it could not compare: {one.trouble}" if one.trouble else ""
        lines.append(
            f"Reconciler, round {one.kind}: ended {max((now - one.ended_at).total_seconds(), 0):,.0f} s ago, "
            f"{counted(one.comparisons, 'comparison')} in {seconds:.1f} s "
            f"({one.cpu_seconds:.1f} s of processor time{rotation}){trouble}."
        )
    return lines
