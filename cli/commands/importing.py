"""The command that imports orders: from Online Retail files, or from a shop's files in the documented format.

Belongs here: `tieout import`, and which import reads a format. Does not belong here: the imports that have not ended
(`imports.py`), how a report looks (`showing.py`, `showing_orders.py`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from cli.confirming import DryRun
from cli.console import ConsoleProgress, print_json
from cli.conventions import AsJson
from contracts.errors import InputError
from stack.composition import session
from stack.composition.migrations import migrate_everything
from traffic.retail.dates import DateOrder


class Format(StrEnum):
    """The format of the files."""

    ONLINE_RETAIL = "online-retail"
    ORDERS = "orders"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command(name="import")(import_)


def import_(
    files: Annotated[list[Path], typer.Argument(help="The files, plain or compressed with gzip.")],
    file_format: Annotated[
        Format,
        typer.Option("--format", help="UCI Online Retail (a country is a merchant), or orders in CSV or JSON Lines."),
    ] = Format.ONLINE_RETAIL,
    mapping: Annotated[
        Path | None, typer.Option(help="Of orders: what your columns and values are called (TOML).")
    ] = None,
    dry_run: DryRun = False,
    date_order: Annotated[
        DateOrder | None,
        typer.Option(help="Of Online Retail: what dates begin with, where no date in the file tells."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import orders with all that happened to them, to the last decimal. Run twice, nothing doubles.

    docs/how-to/import.md has the formats. In JSON, of Online Retail: rows_read, rows_imported, rows_rejected,
    amount_read, amount_imported, amount_rejected, rejected {reason: rows}, orders, refunds, adjustments, unfinished,
    files[] {file, lines, rows_read, rows_rejected, date_order}, reasons[] {reason, rows, amount, first_file,
    first_line}, rejects_file. Of orders: orders_read, orders_imported, orders_rejected, already_imported, unfinished,
    amounts[] {currency, amount (sold, captured, refunded), read, imported, rejected}, unallocated {currency: amount},
    payments, refunds, cancellations, fulfillments, rejected {reason: orders}, files[] {file, orders_read,
    orders_rejected, rejects_file}, reasons[] {reason, orders, first_file, first_line, first_detail}, is_dry_run. Exit
    code 2 when a file is refused, then nothing is booked, or when all of a file is rejected.
    """
    if file_format is Format.ORDERS:
        if date_order is not None:
            raise InputError("--date-order is for Online Retail files; of orders, the mapping has a time_format.")
        _import_orders(files, mapping, is_dry_run=dry_run, as_json=as_json)
        return
    if mapping is not None or dry_run:
        raise InputError("--mapping and --dry-run are for --format orders.")
    _import_retail(files, date_order, as_json=as_json)


def _import_orders(files: list[Path], mapping: Path | None, *, is_dry_run: bool, as_json: bool) -> None:
    from cli.showing_orders import show_orders
    from stack.composition.intake import check_inputs, import_shop, refuse_rejected_orders

    check_inputs(files, mapping)
    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        report = import_shop(files, values, progress, mapping, is_dry_run=is_dry_run)
    if as_json:
        print_json(to_builtins(report))
    else:
        show_orders(report)
    refuse_rejected_orders(report)


def _import_retail(files: list[Path], date_order: DateOrder | None, *, as_json: bool) -> None:
    from cli.showing import show_import
    from stack.composition.intake import check_inputs, import_retail, refuse_rejected_files

    check_inputs(files)
    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        report = import_retail(files, values, progress, date_order)
    if as_json:
        print_json(to_builtins(report))
    else:
        show_import(report)
    refuse_rejected_files(report)
