"""The `tieout` command: assembles its subcommands and runs the one that was called.

Belongs here: assembling the commands, and turning errors into messages and exit codes. Does not belong here: the
commands (`cli/commands/`, a module per topic), under which heading each is listed (`cli/groups.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.commands.accepting import add_commands as add_accepting
from cli.commands.alerts import add_commands as add_alerts
from cli.commands.books import add_commands as add_books
from cli.commands.breaks import add_commands as add_breaks
from cli.commands.carts import add_commands as add_carts
from cli.commands.closing import add_commands as add_closing
from cli.commands.comparing import add_commands as add_comparing
from cli.commands.coverage import add_commands as add_coverage
from cli.commands.dbt import add_commands as add_dbt
from cli.commands.disputes import add_commands as add_disputes
from cli.commands.draining import add_commands as add_draining
from cli.commands.drills import add_commands as add_drills
from cli.commands.hot_stock import add_commands as add_hot_stock
from cli.commands.importing import add_commands as add_importing
from cli.commands.imports import add_commands as add_imports
from cli.commands.keys import add_commands as add_keys
from cli.commands.notifications import add_commands as add_notifications
from cli.commands.open_epoch import add_commands as add_epochs
from cli.commands.parked import add_commands as add_parked
from cli.commands.queries import add_commands as add_queries
from cli.commands.repair import add_commands as add_repair
from cli.commands.reports import add_commands as add_reports
from cli.commands.running import add_commands as add_running
from cli.commands.schemas import add_commands as add_schemas
from cli.commands.search import add_commands as add_search
from cli.commands.status import add_commands as add_status
from cli.commands.stores import add_commands as add_repairs
from cli.commands.traffic import add_commands as add_traffic
from cli.commands.webhooks import add_commands as add_webhooks
from cli.commands.witnesses import add_commands as add_witnesses
from cli.console import answers, print_error
from cli.conventions import FAILED, INTERRUPTED, WRONG_INPUT
from cli.groups import Grouped, put_under_headings
from contracts import limits
from contracts.errors import InputError, SettingsError, StackError, TieoutError
from contracts.pandas_apart import keep_pandas_out
from contracts.text import visible
from stack.code_version import code_version, package_version
from stack.files import keep_private
from stack.looking.outages import outage

app = typer.Typer(
    name="tieout",
    cls=Grouped,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tieout: operations and finance agree to the cent, at a stated cut. Start with `tieout up` or `make run`.",
)


def _version(is_asked: bool) -> None:
    if is_asked:
        answers().print(f"tieout {package_version()}, code {code_version()}", markup=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and exit.")
    ] = False,
) -> None:
    pass


add_running(app)
add_status(app)
add_traffic(app)
add_comparing(app)
add_coverage(app)
add_carts(app)
add_witnesses(app)
add_queries(app)
add_reports(app)
add_importing(app)
add_imports(app)
add_closing(app)
add_books(app)
add_repair(app)
add_disputes(app)
add_draining(app)
add_repairs(app)
add_search(app)
add_parked(app)
add_schemas(app)
add_epochs(app)
add_accepting()
add_breaks(app)
add_alerts(app)
add_drills(app)
add_dbt(app)
add_keys(app)
add_hot_stock(app)
add_notifications(app)
add_webhooks(app)


put_under_headings(app)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise InputError for an argument that no store can hold as text, for example bytes that are not UTF-8."""
    for argument in arguments:
        if not argument.isascii() and (problem := limits.STORED_NAME.problem(argument)):
            raise InputError(f"The argument {visible(argument[:40])} {problem}.")


def main() -> None:
    """Run the command. Print errors of Tieout and outages as one sentence, and exit with the code for them."""
    keep_private()
    keep_pandas_out()
    try:
        _check_arguments(sys.argv[1:])
        app(prog_name="tieout")
    except TieoutError as error:
        print_error(error)
        sys.exit(WRONG_INPUT if isinstance(error, InputError | SettingsError) else FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(INTERRUPTED)
    except Exception as error:
        sentence = outage(error)
        if sentence is None:
            raise
        print_error(StackError(sentence))
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
