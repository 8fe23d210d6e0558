"""`tieout breaks approve-restatement` and `correct`: a person decides about rows in OLTP that no event explains.

Belongs here: showing the rows, and saying what follows. Does not belong here: carrying the decision out
(`repair/deciding.py`).
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from cli.saying import is_name, is_reason
from contracts.errors import ConflictError
from contracts.settings import Settings
from stack.composition import session
from stack.composition.migrations import migrate_everything
from stack.composition.projections import build_projection

if TYPE_CHECKING:
    from repair.deciding import Shown

Number = Annotated[
    int, typer.Argument(metavar="NUMBER", help="The number of a break, as `tieout breaks list` shows it.")
]
Reason = Annotated[str, typer.Option(callback=is_reason, help="Why; kept for ever with the decision.")]
AsShown = Annotated[
    str | None,
    typer.Option(help="The code that the preview printed: decide about exactly that. Without it nothing is changed."),
]
By = Annotated[str | None, typer.Option("--by", callback=is_name, help="Who decides; by default whoever is logged in.")]

CODE_LETTERS = 12


def add_commands(commands: typer.Typer) -> None:
    """Add the commands of this module to `tieout breaks`."""
    commands.command(name="approve-restatement")(approve_restatement)
    commands.command(name="correct")(correct)


def approve_restatement(
    break_id: Number, reason: Reason, as_shown: AsShown = None, by: By = None, as_json: AsJson = False
) -> None:
    """Say that what OLTP holds is right although no event explains it: the next repair states it in a new event.

    First without --as-shown: it prints both values of every field, and a code for exactly that.
    """

    def decide(values: Settings, shown: Shown, who: str) -> dict[str, Any]:
        from repair.deciding import approve

        return {"opened_again": approve(values, shown, by=who, reason=reason)}

    done = "Approved. `tieout repair` states it now; workers do at the next comparison."
    _decide(break_id, as_shown, by, as_json, decide, done)


def correct(break_id: Number, reason: Reason, as_shown: AsShown = None, by: By = None, as_json: AsJson = False) -> None:
    """Put an aggregate's rows in OLTP back to what its newest event says; rows that no event tells of are taken out.

    First without --as-shown: it prints both values of every field, and a code for exactly that.
    """

    def decide(values: Settings, shown: Shown, who: str) -> dict[str, Any]:
        from repair.deciding import correct

        return {"changed": correct(values, shown, by=who, reason=reason).changed}

    done = "Put back. The next comparison ends the break (`tieout reconcile`)."
    _decide(break_id, as_shown, by, as_json, decide, done)


def _decide(
    break_id: int,
    as_shown: str | None,
    by: str | None,
    as_json: bool,
    decide: Callable[[Settings, Shown, str], dict[str, Any]],
    done: str,
) -> None:
    from repair.deciding import look

    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        shown = look(values, break_id, lambda name: build_projection(name, values))
        code = _code(shown)
        if as_shown not in (None, code):
            raise ConflictError(f"Break {break_id} is not any more as it was shown: look again, then decide.")
        outcome = {} if as_shown is None else decide(values, shown, by or getpass.getuser())
    if as_json:
        print_json({**shown.as_json(), "code": code, "is_done": as_shown is not None, **outcome})
        return
    _show(shown)
    answers().print(
        done if as_shown else f"Nothing was changed. To decide about exactly this, add: --as-shown {code}", markup=False
    )


def _code(shown: Shown) -> str:
    return shown.known.digest[:CODE_LETTERS] or "no-row"


def _show(shown: Shown) -> None:
    from repair.remedies import valued

    event_currency, row_currency = shown.known.currencies
    rows = [
        (
            change.field,
            valued(change, change.before, event_currency),
            valued(change, change.after, row_currency),
            "yes" if change.is_money else "",
        )
        for change in shown.changes
    ]
    what = "what its newest event says" if shown.known.has_events else "no event tells of it"
    title = f"{shown.key} in {shown.item.pod}: {what}, and what OLTP holds"
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    answers().print(table(escape(title), ["Field", "By the event", "In the row", "Money"], cells, numbers_from=4))
    if shown.known.is_unexplained:
        answers().print(
            "By the event: the last one whose money finance takes. A later event states the row: once it is put "
            "back, have it stated, too (`tieout breaks approve-restatement` on what the next comparison finds).",
            markup=False,
        )
    if shown.known.lost_versions:
        lost = ", ".join(map(str, shown.known.lost_versions))
        answers().print(f"No store has version {lost} of it any more.", markup=False)
