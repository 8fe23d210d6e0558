"""`make run`: one pass from orders to figures that tie; then servers and workers keep running.

Belongs here: the order of the steps, and what is printed at the end. Does not belong here: the steps themselves.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from cli.console import ConsoleProgress, answers, print_error
from cli.conventions import INTERRUPTED
from contracts.errors import InputError, SettingsError, StackError, TieoutError
from contracts.pandas_apart import keep_pandas_out
from contracts.progress import Progress
from contracts.settings import Settings
from contracts.text import counted
from stack import files, settings
from stack.composition import session
from stack.composition.builder import Built, warm_builder
from stack.composition.draining import drain_apart
from stack.composition.intake import check_inputs, generate_orders, import_retail, refuse_rejected_files
from stack.composition.migrations import migrate_everything
from stack.composition.reconciling import Reconciled, conclusion, describe_build, describe_recorded, reconcile_now, ties
from stack.looking.outages import outage
from traffic.retail.dates import DateOrder

STEPS = (
    "Starting PostgreSQL and Valkey",
    "Migrating",
    "{input}",
    "Bringing every copy up to date",
    "Comparing every store at new cuts",
)
"""The steps of a pass. Without `--once`, PAGES follows."""
PAGES = "Waiting for Dagster's pages"
ORDERS = 500
SEED = 20_101_201


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The result of one pass."""

    comparison: Reconciled
    built: Built | None
    seconds: float

    @property
    def is_tied(self) -> bool:
        """Whether every comparison in every pod is consistent and no figure differs."""
        return ties(self.comparison)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0 if everything ties, 1 if not or if something failed, 2 for wrong input, 130 if interrupted."""
    options = _parser().parse_args(arguments)
    files.keep_private()
    keep_pandas_out()
    progress = ConsoleProgress(plan=_plan(options))
    try:
        check_inputs(options.inputs)
        with session.ended_by_signals():
            return _once(options, progress) if options.once else _and_stay(options, progress)
    except TieoutError as error:
        print_error(error)
        return 2 if isinstance(error, InputError | SettingsError) else 1
    except KeyboardInterrupt:
        progress.note("Tieout has stopped.")
        # An interrupted pass has not shown that everything ties.
        return INTERRUPTED if options.once else 0
    except Exception as error:
        sentence = outage(error)
        if sentence is None:
            raise
        print_error(StackError(sentence))
        return 1


def _plan(options: argparse.Namespace) -> list[str]:
    """Return the steps to come."""
    steps = [step.format(input="Importing files" if options.inputs else "Placing orders") for step in STEPS]
    return steps if options.once else [*steps, PAGES]


def one_pass(
    values: Settings,
    progress: Progress,
    *,
    orders: int,
    seed: int,
    inputs: Sequence[Path],
    date_order: DateOrder | None = None,
) -> Pass:
    """Migrate, import or generate orders, drain, build, compare. The servers must run.

    InputError if an input cannot be imported, or if all rows of a file are rejected.
    """
    started = time.monotonic()
    with warm_builder(values) as builder:
        with progress.step("Migrating"):
            migrate_everything(values)
        if inputs:
            _import(inputs, values, progress, date_order)
        else:
            generate_orders(orders, seed, values, progress)
        with progress.step("Bringing every copy up to date") as step:
            drained = drain_apart(values, lambda what, events: step.say(f"{what}, {counted(events, 'event')}"))
            step.conclude(counted(sum(pod.events_published for pod in drained), "event"))
        comparison = reconcile_now(values, progress, builder)
    return Pass(comparison=comparison, built=builder.built, seconds=time.monotonic() - started)


def _import(inputs: Sequence[Path], values: Settings, progress: Progress, date_order: DateOrder | None) -> None:
    from cli.showing import show_rejects

    report = import_retail(inputs, values, progress, date_order)
    progress.note(
        f"  {counted(report.rows_read, 'row')} of {report.amount_read}: {report.rows_imported:,} imported "
        f"({report.amount_imported}), {report.rows_rejected:,} rejected ({report.amount_rejected})."
    )
    show_rejects(report)
    refuse_rejected_files(report)


def _once(options: argparse.Namespace, progress: Progress) -> int:
    with session.open_session(progress) as values:
        done = _pass_and_show(values, options, progress)
    return 0 if done.is_tied else 1


def _and_stay(options: argparse.Namespace, progress: Progress) -> int:
    from stack.upkeep.lifecycle import keep_up

    with ExitStack() as stack:
        stack.enter_context(session.residence(settings.var_dir()))
        values = stack.enter_context(session.open_session(progress))
        _pass_and_show(values, options, progress)
        keep_up(values, progress, has_traffic=True, has_pages=True)
    return 0


def _pass_and_show(values: Settings, options: argparse.Namespace, progress: Progress) -> Pass:
    from cli.showing import show_figures, show_results

    started = time.monotonic()
    done = one_pass(
        values,
        progress,
        orders=options.orders,
        seed=options.seed,
        inputs=options.inputs,
        date_order=options.date_order,
    )
    show_results(done.comparison.results, is_short=True)
    show_figures(done.comparison.figures)
    console = answers()
    console.print(describe_recorded(done.comparison.recorded))
    console.print(escape(describe_build(done.built)))
    style = "bold green" if done.is_tied else "bold red"
    console.print(f"[{style}]{escape(conclusion(done.comparison))}[/]")
    console.print(f"After {time.monotonic() - started:.1f} s.")
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make run", description="Orders in, exact books out.")
    parser.add_argument("--once", action="store_true", help="stop after one pass; exit code 0 only if everything ties")
    parser.add_argument("--orders", type=int, default=ORDERS, help="orders that the generator places")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the generator")
    parser.add_argument(
        "--date-order",
        type=DateOrder,
        choices=list(DateOrder),
        metavar="|".join(DateOrder),
        help="what the dates of the files begin with, where no date in them tells",
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="Online Retail files (.csv, .csv.gz) to import instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
