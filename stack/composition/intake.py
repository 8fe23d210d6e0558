"""Bringing orders in: generated orders, orders of Online Retail files, and orders of a shop.

Belongs here: progress and checks around `traffic/`. Does not belong here: the traffic itself.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import InputError
from contracts.progress import Progress, Step
from contracts.settings import Settings
from contracts.text import counted
from stack.processes.apart import Say, run_apart

if TYPE_CHECKING:
    from traffic.generator import GeneratorReport
    from traffic.orders.report import OrdersReport
    from traffic.retail.dates import DateOrder
    from traffic.retail.report import ImportReport


def import_retail(
    paths: Sequence[Path], settings: Settings, progress: Progress, date_order: DateOrder | None = None
) -> ImportReport:
    """Import Online Retail files. InputError names a file that cannot be imported; it is raised before any booking.

    No month can be closed while the import runs, or after it was interrupted.
    """
    from finance.imports import recorded_import

    with (
        progress.step("Importing Online Retail") as step,
        recorded_import(settings.control_dsn, paths, by=getpass.getuser()) as recorded,
    ):
        report = run_apart(partial(_import_files, paths=paths, date_order=date_order), settings, partial(_say, step))
        recorded.unfinished = report.unfinished
    return report


def _import_files(settings: Settings, say: Say, *, paths: Sequence[Path], date_order: DateOrder | None) -> ImportReport:
    from traffic.retail.importing import import_files

    return import_files(paths, settings, say, date_order=date_order)


def check_inputs(paths: Sequence[Path], mapping: Path | None = None) -> None:
    """Raise InputError for files that cannot be read; called before servers are started for the import."""
    from traffic.input_files import file_state
    from traffic.orders.mapping import read_mapping

    for path in paths:
        file_state(path)
    if mapping is not None:
        read_mapping(mapping)


def import_shop(
    paths: Sequence[Path], settings: Settings, progress: Progress, mapping: Path | None, *, is_dry_run: bool
) -> OrdersReport:
    """Import files of orders, or report what an import would do (`is_dry_run`).

    InputError names what cannot be imported; it is raised before any booking. No month can be closed while the import
    runs, or after it was interrupted.
    """
    from finance.imports import recorded_import

    work = partial(_import_orders, paths=paths, mapping=mapping, is_dry_run=is_dry_run)
    with progress.step("Checking orders" if is_dry_run else "Importing orders") as step, ExitStack() as stack:
        if is_dry_run:
            return run_apart(work, settings, partial(_say, step))
        recorded = stack.enter_context(recorded_import(settings.control_dsn, paths, by=getpass.getuser()))
        report = run_apart(work, settings, partial(_say, step))
        recorded.unfinished = report.unfinished
    return report


def _import_orders(
    settings: Settings, say: Say, *, paths: Sequence[Path], mapping: Path | None, is_dry_run: bool
) -> OrdersReport:
    from traffic.orders.importing import import_orders
    from traffic.orders.mapping import read_mapping

    return import_orders(paths, settings, read_mapping(mapping), say, is_dry_run=is_dry_run)


def refuse_rejected_orders(report: OrdersReport) -> None:
    """Raise InputError when all orders of a file were rejected; the bookings of other files stay."""
    if files := report.rejected_files:
        where = f"; why, order by order, stands in {', '.join(report.rejects_files)}" if report.rejects_files else ""
        raise InputError(f"Every order of {', '.join(files)} was rejected{where}.")


def refuse_rejected_files(report: ImportReport) -> None:
    """Raise InputError when all rows of a file were rejected; the bookings of other files stay."""
    if files := report.rejected_files:
        raise InputError(
            f"Every row of {', '.join(files)} was rejected; why, row by row, stands in {report.rejects_file}."
        )


def _say(step: Step, what: str, done: int, total: int) -> None:
    of = f" of {total:,}" if total else ""
    step.say(f"{what}, {done:,}{of}")


def generate_orders(orders: int, seed: int, settings: Settings, progress: Progress) -> GeneratorReport:
    """Place `orders` generated orders, and run the commands that follow them, e.g. payments and refunds."""
    from traffic.generator import place_orders

    with progress.step(f"Placing {counted(orders, 'order')}") as step:
        report = place_orders(
            settings,
            orders=orders,
            seed=seed,
            on_progress=lambda what, done, total: _say(step, what, done, total),
        )
        commands = counted(sum(report.commands.values()), "command")
        step.conclude(f"{commands}, {report.refused:,} refused for want of stock or funds")
    return report
