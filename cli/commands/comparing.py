"""The command `tieout reconcile`: compare every store with its owner now.

Belongs here: its options, what it prints, its exit code. Does not belong here: comparing (`reconcile/`), what was
compared when (`coverage.py`), what was found (`breaks.py`).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from cli.console import ConsoleProgress, answers, print_json
from cli.conventions import FAILED, AsJson
from stack.composition import session


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(reconcile)


def reconcile(
    pair: Annotated[list[str] | None, typer.Option(help="Only this pair or family of pairs; may be repeated.")] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what changed since the last comparison, and the sweep's next part.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every store with its owner, key by key, at a new cut of every pod, while everything goes on.

    Exit code 0 only if every verdict is `consistent`. `late` means that a copy did not get there in the time it is
    allowed; `unknown` that a side could not be read: neither is a pass. Every key that differs becomes a break, which
    stays until a later comparison finds it in order: see `tieout breaks`. What was compared when: `tieout coverage`.
    """
    from cli.showing import show_figures, show_results
    from stack.composition.builder import warm_builder
    from stack.composition.reconciling import (
        conclusion,
        describe_recorded,
        needs_builds,
        reconcile_now,
        recorded_json,
        ties,
    )

    progress, has_builds = ConsoleProgress(), needs_builds(pair)
    with (
        session.ended_by_signals(),
        session.open_session(progress) as values,
        warm_builder(values) if has_builds else nullcontext() as builder,
    ):
        comparison = reconcile_now(values, progress, builder, pairs=pair, is_incremental=changed)
    if as_json:
        print_json(
            {
                "ties": ties(comparison),
                "conclusion": conclusion(comparison),
                "pairs": [result.as_json() for result in comparison.results],
                "figures": [vars(figure) for figure in comparison.figures],
                "breaks": recorded_json(comparison.recorded),
            }
        )
    else:
        show_results(comparison.results)
        show_figures(comparison.figures)
        answers().print(describe_recorded(comparison.recorded))
        answers().print(conclusion(comparison), markup=False)
    if not ties(comparison):
        raise typer.Exit(FAILED)
