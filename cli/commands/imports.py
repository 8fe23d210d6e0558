"""Commands on imports that have not ended: list them, and give one up that nobody will finish.

Belongs here: `tieout imports ...` and what it prints. Does not belong here: importing (`tieout import`), the record of
imports (`finance/imports.py`).
"""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json
from cli.conventions import AsJson
from cli.saying import is_name, is_reason
from stack.composition import session
from stack.composition.migrations import migrate_everything

By = Annotated[str | None, typer.Option("--by", callback=is_name, help="Who decides; by default whoever is logged in.")]

commands = typer.Typer(
    no_args_is_help=True, help="Imports that run or were torn; while there is one, no month can be closed."
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    commands.command(name="list")(list_imports)
    commands.command(name="give-up")(give_up)
    app.add_typer(commands, name="imports")


def list_imports(as_json: AsJson = False) -> None:
    """List the imports that have not ended: those that run, were interrupted, or left something unfinished."""
    from finance.imports import unended_imports

    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        found = unended_imports(values.control_dsn)
    if as_json:
        print_json([one.as_json() for one in found])
        return
    if not found:
        answers().print("No import is open.")
    for one in found:
        answers().print(f"{one.sentence[0].upper()}{one.sentence[1:]}.", markup=False)


def give_up(
    number: Annotated[int, typer.Argument(help="The number of an import, as `tieout imports list` shows it.")],
    reason: Annotated[str, typer.Option(callback=is_reason, help="Why nobody will finish it; kept.")],
    by: By = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give up an import that was torn: what it has booked stays, what it has not is not in the books.

    Months can be closed again then. To finish it instead, import the same files again.
    """
    from finance import imports

    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        migrate_everything(values)
        found = imports.open_import(values.control_dsn, number)
        intent = Intent(
            what=f"Import {number} of {', '.join(found.files)} is given up, for ever.",
            question="Give it up?",
            details=[
                "What it has booked stays; rows that it has not booked are in no report, and no longer in the way."
            ],
        )
        if not is_agreed(intent, is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        imports.give_up(values.control_dsn, number, reason=reason, by=by or getpass.getuser())
    if as_json:
        print_json({"import_id": number, "given_up": True})
        return
    answers().print(f"Import {number} is given up.")
