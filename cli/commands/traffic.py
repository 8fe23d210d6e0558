"""The command `tieout traffic`: generates orders, with their payments, shipments and refunds.

Belongs here: its options and what it prints. Does not belong here: generating them (`traffic/`), orders from files
(`importing.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import to_builtins

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from contracts.text import counted
from stack.composition import session
from stack.composition.migrations import migrate_everything


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(traffic)


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
