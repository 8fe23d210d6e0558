"""The `tieout` command: what can be asked and done from a shell, in words for finance and on-call.

Belongs here: options, what is printed, exit codes. Does not belong here: the work (one module per command beside this).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from cli.commands.accepting import add_commands as add_accepting
from cli.commands.alerts import add_commands as add_alerts
from cli.commands.books import add_commands as add_books
from cli.commands.breaks import add_commands as add_breaks
from cli.commands.closing import add_commands as add_closing
from cli.commands.coverage import add_commands as add_coverage
from cli.commands.dbt import add_commands as add_dbt
from cli.commands.drills import add_commands as add_drills
from cli.commands.epochs import add_commands as add_epochs
from cli.commands.importing import add_commands as add_importing
from cli.commands.imports import add_commands as add_imports
from cli.commands.parked import add_commands as add_parked
from cli.commands.queries import add_commands as add_queries
from cli.commands.repair import add_commands as add_repair
from cli.commands.reports import add_commands as add_reports
from cli.commands.schemas import add_commands as add_schemas
from cli.commands.status import add_commands as add_status
from cli.commands.stores import add_commands as add_repairs
from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_error, print_json, table
from cli.groups import Grouped, put_under_headings
from contracts import limits
from contracts.errors import InputError, SettingsError, StackError, TieoutError
from contracts.pandas_apart import keep_pandas_out
from contracts.text import counted, visible
from stack import settings
from stack.code_version import code_version, package_version
from stack.composition import session
from stack.composition.migrations import migrate_everything
from stack.files import keep_private
from stack.looking.outages import outage
from stack.upkeep import lifecycle

FAILED = 1
WRONG_INPUT = 2
NOT_RUNNING = 3
INTERRUPTED = 130

app = typer.Typer(
    name="tieout",
    cls=Grouped,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tieout: operations and finance agree to the cent, at a stated cut. Start with `tieout up` or `make run`.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document, for programs.")]


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


@app.command()
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


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop everything that was started here, also what a killed process left behind. Data stay."""
    with ConsoleProgress().step("Stopping"):
        stopped = session.stop_everything(settings.var_dir())
    if as_json:
        print_json({"stopped": stopped})
        return
    answers().print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def reload() -> None:
    """Load the code of the graph again, after it was changed: assets, checks, jobs, dbt's models.

    Dagster's code servers end as soon as their runs have, and are started again. The button in the pages does not do
    that. Workers are started anew by `tieout down` and `tieout up`.
    """
    locations = lifecycle.reload_code(session.settings_here())
    answers().print(f"The code servers of {' and '.join(locations)} start again as soon as their runs have ended.")


@app.command()
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


@app.command()
def drain(as_json: AsJson = False) -> None:
    """Bring every copy up to date once: publish what is committed, apply it to the lake and the views.

    Not needed while workers run (`tieout up`); they do this all the time.
    """
    from stack.composition.propagation import drain_everything

    progress = ConsoleProgress()
    with session.open_session(progress) as values, progress.step("Draining") as step:
        drained = drain_everything(
            values, on_drained=lambda what, events: step.say(f"{what}, {counted(events, 'event')}")
        )
        step.conclude(counted(sum(pod.events_published for pod in drained), "event"))
    if as_json:
        print_json([vars(pod) for pod in drained])
        return
    rows = [
        (pod.pod, pod.cut, pod.events_published, *pod.applied.values(), sum(pod.parked.values())) for pod in drained
    ]
    headings = ["Pod", "Cut", "Published", *(name.replace("_", " ").capitalize() for name in drained[0].applied)]
    answers().print(table("Events brought on their way", [*headings, "Parked"], rows))


@app.command()
def traffic(
    orders: Annotated[int, typer.Option(min=1, help="How many orders.")] = 1_000,
    seed: Annotated[int, typer.Option(help="The same seed on the same books places the same orders.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Place generated orders with all that follows: payments, shipments, cancellations, refunds, write-offs.

    The shape is that of real trade (Online Retail): few shops and products sell most. `tieout up` places orders by
    itself as long as it runs.
    """
    from stack.composition.intake import generate_orders

    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        done = generate_orders(orders, seed, values, progress)
    if as_json:
        print_json(to_builtins(done))
        return
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in done.commands.items()]
    answers().print(
        table(f"{counted(done.orders, 'order')} from {done.first_order_number} on", ("Command", "Done"), rows)
    )


@app.command()
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


add_status(app)
add_coverage(app)
add_queries(app)
add_reports(app)
add_importing(app)
add_imports(app)
add_closing(app)
add_books(app)
add_repair(app)
add_repairs(app)
add_parked(app)
add_schemas(app)
add_epochs(app)
add_accepting()
add_breaks(app)
add_alerts(app)
add_drills(app)
add_dbt(app)


put_under_headings(app)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise InputError for an argument that is no text: bytes that are not UTF-8 can be looked for in no store."""
    for argument in arguments:
        if not argument.isascii() and (problem := limits.STORED_NAME.problem(argument)):
            raise InputError(f"The argument {visible(argument[:40])} {problem}.")


def main() -> None:
    """Run the command; errors that Tieout foresaw, and outages, become one sentence and an exit code."""
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
