"""The command `tieout dbt`: any command of dbt on this deployment's warehouse.

Belongs here: the servers that it needs, and the message about a build. Does not belong here: what a command may do and
which lock it holds (`derived/dbt_by_hand.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cli.console import ConsoleProgress
from contracts.errors import InputError
from contracts.progress import Progress
from contracts.settings import Settings
from stack.composition import session
from stack.composition.migrations import migrate_everything

COMPLETE = "Build {build_id} is complete: reports read it."
PARTIAL = (
    "Build {build_id} is not complete, because it did not build and test everything without a fault: reports read the "
    "last complete one, and the next build starts where that one stood."
)


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    # All arguments belong to dbt, also `--help` after one of its commands.
    app.command(name="dbt", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(dbt)


def dbt(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="A command of dbt and its options.", metavar="COMMAND [OPTIONS]")
    ] = None,
) -> None:
    """Run a command of dbt with this deployment's profile, lake and extensions; see docs/how-to/dbt.md.

    For example `tieout dbt build -s daily_sales`, `tieout dbt show -s orders`, `tieout dbt test`, `tieout dbt docs
    generate`, `tieout dbt ls`, `tieout dbt run --help`. What writes holds the build lock, and waits for a build that is
    under way. Reports read a build by hand only if it built and tested everything without a fault. The exit code is
    dbt's: 0 all is well, 1 a model or a test failed, 2 it could not run.
    """
    from derived.dbt_by_hand import (
        asks_for_freshness,
        check_arguments,
        is_building,
        is_offline,
        locked_for,
        run_by_hand,
    )
    from stack.looking.lake_completeness import lake_complete_at

    given = list(arguments or [])
    check_arguments(given)
    progress = ConsoleProgress()
    with session.ended_by_signals(), _servers(progress, is_needed=not is_offline(given)) as values:
        if is_building(given):
            with progress.step("Migrating"):
                migrate_everything(values)
        complete_at = lake_complete_at(values) if asks_for_freshness(given) else None
        with locked_for(values, given) as build:
            done = run_by_hand(values, given, build, lake_complete_at=complete_at)
    if done.usage_error:
        raise InputError(done.usage_error)
    if build is not None:
        progress.note((COMPLETE if done.is_complete else PARTIAL).format(build_id=build.build_id))
    if done.exit_code:
        raise typer.Exit(done.exit_code)


@contextmanager
def _servers(progress: Progress, *, is_needed: bool) -> Iterator[Settings]:
    """Yield the settings of the deployment that was started here before; start its servers if they are needed.

    SettingsError if no deployment was started here: its warehouse would be empty.
    """
    values = session.settings_here()
    if not is_needed:
        yield values
        return
    with session.open_session(progress) as running:
        yield running
