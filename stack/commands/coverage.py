"""`tieout coverage`: since when everything was compared at least once, per pair and pod.

Belongs here: that answer, for people and for programs. Does not belong here: comparing, or the sweep (`reconcile/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from contracts.clock import utc_now
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.settings import Settings
from contracts.text import counted
from reconcile.coverage import read_coverage
from reconcile.pairs import PAIRS
from reconcile.sweep import Coverage
from stack import settings
from stack.console import answers, print_json, table


def add_commands(app: typer.Typer) -> None:
    """Add `tieout coverage`."""
    app.command()(coverage)


def coverage(as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")] = False) -> None:
    """Say since when every key of every pair was compared at least once, and at or after which cut.

    Incremental comparisons look at what changed and at a rotating part of the rest; a part that was not looked at for
    longer than the contract states is behind. Exit code 1 when one is, or when a pair was never compared completely.
    """
    values = settings.load_settings()
    now = utc_now()
    found = read_coverage(values.control_dsn)
    missing = never_compared(values, found)
    if as_json:
        print_json(coverage_json(list(found.values()), missing, now))
    else:
        _show(list(found.values()), missing, now)
    if missing or any(one.is_behind(now) for one in found.values()):
        raise typer.Exit(1)


def never_compared(values: Settings, found: dict[tuple[str, str], Coverage]) -> list[tuple[str, str]]:
    """Return the pairs and pods of which everything was never compared."""
    return [(pair.name, pod.pod) for pair in PAIRS for pod in values.pods if (pair.name, pod.pod) not in found]


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


def _show(found: Sequence[Coverage], missing: Sequence[tuple[str, str]], now: datetime) -> None:
    rows = [
        (
            one.pair,
            one.pod,
            f"{one.oldest.compared_at:%Y-%m-%d %H:%M:%S}",
            one.lowest_cut,
            one.cut,
            len(one.parts),
            "behind" if one.is_behind(now) else "",
        )
        for one in found
    ]
    headings = ["Pair", "Pod", "Everything compared since (UTC)", "At or after cut", "Changes through cut", "Parts", ""]
    if rows:
        answers().print(table("What was compared when", headings, rows, numbers_from=3))
    for pair, pod in missing:
        answers().print(f"{pair} in {pod} was never compared completely.")
    answers().print(coverage_line(found, len(missing), now))
