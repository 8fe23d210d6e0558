"""The preview and the confirmation of commands whose effect cannot be undone.

Such a command first shows what it will do, and to what; with --dry-run it ends there. Then it asks a person, or goes on
if --yes was given. Without a terminal and without --yes it does nothing.

Belongs here: the options and the question, alike for all such commands. Does not belong here: what is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import VisibleConsole, answers, print_json
from contracts.errors import InputError, StackError

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for programs. What will be done is shown first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and to what.")]


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What a command is about to do."""

    what: str
    """One sentence: the action, its target, and that it cannot be undone. Ends with a full stop."""
    question: str
    """The question that we ask on a terminal; ends with a question mark."""
    details: Sequence[str] = ()
    """One sentence each, in order."""
    tables: Sequence[Table] = ()
    document: Any = None
    """The same for programs: the output of --dry-run --json."""


def is_agreed(intent: Intent, *, is_yes: bool, is_dry_run: bool, as_json: bool = False) -> bool:
    """Show what will be done, and return whether the command may do it; False for a dry run.

    Raises InputError if there is no terminal to ask on, StackError if the answer is no.
    """
    if is_dry_run:
        _dry_run(intent, as_json=as_json)
        return False
    # To standard error: programs read the command's answer from standard output.
    show(intent, VisibleConsole(stderr=True, highlight=False, soft_wrap=True))
    if is_yes:
        return True
    if not sys.stdin.isatty():
        raise InputError(
            "Nothing was done: this cannot be taken back, and nobody can be asked here. Look with --dry-run, then say "
            "--yes."
        )
    if not typer.confirm(intent.question, err=True):
        raise StackError("Nothing was done.")
    return True


def is_said(intent: Intent, is_dry_run: bool, as_json: bool) -> bool:
    """Show what a command will do that loses no data and needs no confirmation; return False for a dry run."""
    return is_agreed(intent, is_yes=True, is_dry_run=is_dry_run, as_json=as_json)


def show(intent: Intent, console: VisibleConsole) -> None:
    """Print what will be done."""
    console.print(f"[bold]{escape(intent.what)}[/]")
    for table in intent.tables:
        console.print(table)
    for sentence in intent.details:
        console.print(f"- {sentence}", markup=False)


def _dry_run(intent: Intent, *, as_json: bool) -> None:
    if as_json:
        print_json(intent.document)
        return
    show(intent, answers())
    answers().print("Nothing was done.")
