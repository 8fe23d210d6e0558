"""`tieout coverage`: since when everything was compared at least once, per pair and pod.

Belongs here: that answer, for people and for programs. Does not belong here: gathering it
(`stack/looking/coverage.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import typer

from cli.console import answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.clock import utc_now
from reconcile.coverage import read_coverage
from reconcile.rounds import Round, newest_rounds
from reconcile.sweep import Coverage
from stack import settings
from stack.looking.coverage import coverage_json, coverage_line, never_compared, rounds_json, rounds_said


def add_commands(app: typer.Typer) -> None:
    """Add `tieout coverage`."""
    app.command()(coverage)


def coverage(as_json: AsJson = False) -> None:
    """Say since when every key of every pair was compared at least once, and at or after which cut.

    Incremental comparisons look at what changed and at a rotating part of the rest; a part that was not looked at for
    longer than the contract states is behind. Exit code 1 when one is, or when a pair was never compared completely.
    """
    values = settings.load_settings()
    now = utc_now()
    found = read_coverage(values.control_dsn)
    missing = never_compared(values, found)
    rounds = newest_rounds(values.control_dsn)
    if as_json:
        print_json({**coverage_json(list(found.values()), missing, now), "rounds": rounds_json(rounds)})
    else:
        _show(list(found.values()), missing, rounds, now)
    if missing or any(one.is_behind(now) for one in found.values()):
        raise typer.Exit(FAILED)


def _show(
    found: Sequence[Coverage], missing: Sequence[tuple[str, str]], rounds: Mapping[str, Round], now: datetime
) -> None:
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
    for line in rounds_said(rounds, now):
        answers().print(line)
    for pair, pod in missing:
        answers().print(f"{pair} in {pod} was never compared completely.")
    answers().print(coverage_line(found, len(missing), now))
