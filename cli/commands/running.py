"""The commands that start and stop everything: `tieout up`, `down`, `reload`, `reset`.

Belongs here: their options and what they print. Does not belong here: starting and stopping (`stack/upkeep/`), how
everything stands (`status.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json
from cli.conventions import AsJson
from stack import settings
from stack.composition import session
from stack.upkeep import lifecycle


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for command in (up, down, reload, reset):
        app.command()(command)


def up(
    detach: Annotated[
        bool,
        typer.Option("--detach/--no-detach", "-d", help="Return as soon as workers run; stop it with `tieout down`."),
    ] = False,
    traffic: Annotated[bool, typer.Option(help="Keep placing orders, a few per second.")] = True,
    ui: Annotated[
        bool, typer.Option(help="Start Dagster's pages; without, comparisons, repairs, alerts go on.")
    ] = True,
) -> None:
    """Start everything and keep it up until Ctrl-C.

    That is: two pods and a control cluster of PostgreSQL, Valkey, the workers that keep every copy up to date, Dagster.
    Data of earlier runs are kept and continued.
    """
    progress = ConsoleProgress()
    if detach:
        options = [] if traffic else ["--no-traffic"]
        process_id = lifecycle.start_in_background(progress, options if ui else [*options, "--no-ui"])
        later = " Dagster's pages take a minute more: `tieout status` says when, and where." if ui else ""
        progress.note(f"Tieout runs in process {process_id}. See `tieout status`; stop it with `tieout down`.{later}")
        return
    try:
        lifecycle.run_until_interrupted(progress, has_traffic=traffic, has_pages=ui)
    except KeyboardInterrupt:
        progress.note("Tieout has stopped.")


def down(as_json: AsJson = False) -> None:
    """Stop everything that was started here, also what a killed process left behind. Data stay."""
    with ConsoleProgress().step("Stopping"):
        stopped = session.stop_everything(settings.var_dir())
    if as_json:
        print_json({"stopped": stopped})
        return
    answers().print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


def reload() -> None:
    """Load the code of the graph again, after it was changed: assets, checks, jobs, dbt's models.

    Dagster's code servers end as soon as their runs have, and are started again. The button in the pages does not do
    that. Workers are started anew by `tieout down` and `tieout up`.
    """
    locations = lifecycle.reload_code(session.settings_here())
    answers().print(f"The code servers of {' and '.join(locations)} start again as soon as their runs have ended.")


def reset(yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Stop everything and delete all data: orders, log, lake, reports, history. Cannot be undone."""
    folder = lifecycle.deletable()
    if not is_agreed(_resetting(folder), is_yes=yes, is_dry_run=dry_run, as_json=as_json):
        return
    with ConsoleProgress().step("Stopping and deleting"):
        stopped = lifecycle.reset()
    if as_json:
        print_json({"stopped": stopped, "deleted": str(folder)})
        return
    ended = f"Stopped {', '.join(stopped)}. " if stopped else ""
    answers().print(f"{ended}All data in {folder} are deleted; the next start begins from nothing.", markup=False)


def _resetting(folder: Path) -> Intent:
    sizes = lifecycle.bytes_by_folder(folder)
    held = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items())
    return Intent(
        what=f"Everything in {folder} will be stopped and deleted, for ever.",
        question=f"Delete all data in {folder}?",
        details=[
            f"Deleted: {held}." if held else "There is nothing to delete.",
            "With it go all orders, the reports of closed months, the lake, and its backup if that is in this folder.",
        ],
        document={"folder": str(folder), "bytes": sizes, "dry_run": True},
    )
