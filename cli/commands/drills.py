"""The command `tieout drill`: breaks every copy on purpose, on separate servers, and shows which drills held.

Belongs here: its options and what it prints. Does not belong here: starting and recording drills
(`stack/composition/drilling.py`), what is drilled (`contracts/drills.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.clock import utc_now
from contracts.drills import DRILLS, DrillTest, drills_named
from contracts.errors import InputError
from contracts.ownership import COPIES
from contracts.text import counted
from stack.composition import session
from stack.composition.migrations import migrate_everything

if TYPE_CHECKING:
    from drills.matrix import CellProof
    from drills.observing import Outcome
    from stack.composition.drilling import Drilled

STATE_STYLES = {"proven": "green", "never": "yellow", "too old": "yellow", "failed": "bold red"}


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="drill")(drill)


def drill(
    system: Annotated[
        str | None, typer.Argument(help=f"Only this copy: {', '.join(copy.name for copy in COPIES)}.")
    ] = None,
    test: Annotated[str | None, typer.Argument(help=f"Only this test: {', '.join(DrillTest)}.")] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Drill nothing; show what was proven when.")] = False,
    orders_per_second: Annotated[float, typer.Option(min=0.5, max=200.0, help="The load, over both pods.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Break copies on purpose and look whether the contract holds: replay, lag, stale read, source outage.

    Nothing here is touched: the drill runs the same code and workers on servers of its own, under load, and deletes
    them. Evidence stays in var/drills, as a page and as JSON. Exit code 0 only if every drill held.
    """
    chosen = drills_named(system, test)
    if matrix and (system or test):
        raise InputError("--matrix shows all drills; leave the copy and the test out.")
    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        if matrix:
            _show_matrix(_cells(values.control_dsn), as_json)
            return
        from stack.composition.drilling import drill_now

        with progress.step(f"Drilling {len(chosen)} of {len(DRILLS)}") as step:
            step.say("starting servers and workers for it")

            def tell(outcome: Outcome) -> None:
                progress.note(outcome_line(outcome))
                step.say(f"last: {outcome.system} {outcome.test}")

            drilled = drill_now(values, chosen, orders_per_second=orders_per_second, on_step=step.say, on_outcome=tell)
    _show(drilled, as_json)
    if not drilled.have_all_held:
        raise typer.Exit(FAILED)


def outcome_line(outcome: Outcome) -> str:
    """Return one line on the result of a drill."""
    mark = "[green]✓[/] held  " if outcome.has_held else "[bold red]✗ failed[/]"
    looks = counted(len(outcome.observations), "observation")
    return f"  {mark} {outcome.system} {outcome.test}: {looks} in {outcome.seconds:.1f} s"


def _cells(control_dsn: str) -> Sequence[CellProof]:
    from drills.matrix import cell_proofs
    from drills.records import newest_proofs

    return cell_proofs(newest_proofs(control_dsn), utc_now())


def _show_matrix(cells: Sequence[CellProof], as_json: bool) -> None:
    from drills.matrix import matrix_json, summary, system_proofs

    if as_json:
        print_json({"drills": matrix_json(cells)})
        return
    rows = [
        (proof.system, *(f"[{STATE_STYLES[cell.state]}]{cell}[/]" for cell in proof.cells))
        for proof in system_proofs(cells)
    ]
    answers().print(table("Drills", ("Copy", *_headings()), rows, numbers_from=9))
    answers().print(f"{summary(cells)}. What each does: docs/drills.md.")


def _show(drilled: Drilled, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(drilled))
        return
    found = {(outcome.system, outcome.test): outcome for outcome in drilled.outcomes}
    rows = [
        (copy.name, *(_cell(found.get((copy.name, test.value))) for test in DrillTest))
        for copy in COPIES
        if any(name == copy.name for name, _ in found)
    ]
    console = answers()
    console.print(table("Drills", ("Copy", *_headings()), rows, numbers_from=9))
    for outcome in drilled.outcomes:
        for problem in outcome.problems:
            console.print(f"{outcome.system} {outcome.test}: {problem}", markup=False)
    from drills.evidence_files import conclusion

    console.print(f"{conclusion(drilled.outcomes)} Evidence: {drilled.page}")


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    mark = "[green]held[/]" if outcome.has_held else "[bold red]failed[/]"
    return f"{mark}, {counted(len(outcome.observations), 'look')}, {outcome.seconds:.0f} s"


def _headings() -> list[str]:
    return [test.value.replace("_", " ").capitalize() for test in DrillTest]


def _as_json(drilled: Drilled) -> dict[str, Any]:
    return {
        "run": drilled.run.run,
        "have_all_held": drilled.have_all_held,
        "code_version": drilled.run.code_version,
        "page": str(drilled.page),
        "drills": [outcome.as_json() for outcome in drilled.outcomes],
    }
