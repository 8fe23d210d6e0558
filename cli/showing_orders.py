"""How the report of an import of orders looks on a terminal.

Belongs here: tables for people. Does not belong here: what stands in it (`traffic/orders/report.py`).
"""

from __future__ import annotations

from rich.markup import escape

from cli.console import answers, table
from contracts.text import counted
from traffic.orders.report import OrdersReport


def show_orders(report: OrdersReport) -> None:
    """Print what an import of orders read, booked and rejected, or what a dry run would."""
    console = answers()
    booked = "Would be imported" if report.is_dry_run else "Imported"
    rows = [
        ("Read", f"{report.orders_read:,}"),
        (booked, f"{report.orders_imported:,}"),
        ("  of these before this run", f"{report.already_imported:,}"),
        ("Rejected", f"{report.orders_rejected:,}"),
    ]
    console.print(table("Orders", ("Orders", "Number"), rows))
    amounts = [(item.currency, item.amount, item.read, item.imported, item.rejected) for item in report.amounts]
    console.print(table("Amounts", ("Currency", "", "Read", booked, "Rejected"), amounts, numbers_from=2))
    when = "Would be booked" if report.is_dry_run else "Booked now"
    console.print(
        f"{when}: {counted(report.payments, 'payment')}, {counted(report.refunds, 'refund')}, "
        f"{counted(report.cancellations, 'cancellation')}, {counted(report.fulfillments, 'shipment')}."
    )
    for currency, amount in report.unallocated.items():
        console.print(f"Paid above orders: {amount} {currency}, on lines of SKU UNALLOCATED-CASH.")
    if report.unfinished:
        console.print(f"Unfinished orders: {report.unfinished:,}. Import them again: the books refused a later step.")
    _show_rejects(report)


def _show_rejects(report: OrdersReport) -> None:
    if not report.orders_rejected:
        return
    console = answers()
    rows = [
        (
            item.reason.replace("_", " "),
            f"{item.orders:,}",
            f"{escape(item.first_file)}, line {item.first_line}",
            escape(item.first_detail),
        )
        for item in report.reasons
    ]
    console.print(table("Rejected orders", ("Reason", "Orders", "First in", "There"), rows, numbers_from=99))
    if report.rejects_files:
        console.print(f"All of them, to be mended and imported again: {', '.join(report.rejects_files)}", markup=False)
