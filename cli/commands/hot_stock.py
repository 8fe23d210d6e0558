"""`tieout hot-stock`: spread the stock of a variant that everybody buys at once, or fold it back.

Belongs here: that command and what it prints. Does not belong here: how it is done (`stack/composition/hot_stock.py`).
"""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.commands.stores import open_servers
from cli.confirming import DryRun, Intent, is_said
from cli.console import answers, print_json
from cli.conventions import AsJson
from contracts.text import counted

if TYPE_CHECKING:
    from oltp.store.stock import StockLayout


def add_commands(app: typer.Typer) -> None:
    """Add `tieout hot-stock`."""
    app.command(name="hot-stock")(hot_stock)


def hot_stock(
    sku: Annotated[str, typer.Argument(help="The SKU that everybody buys at once.")],
    merchant: Annotated[str, typer.Option("--merchant", help="The merchant's id.")],
    location: Annotated[str, typer.Option("--location", help="Where the stock is.")] = "main",
    fold: Annotated[bool, typer.Option("--fold", help="The sale is over: make it one counter again.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the change.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Spread a variant's stock over slots, so that its buyers do not wait for each other; orders go on meanwhile.

    The level does not change: it is the sum of its slots. Done again it changes nothing. Who did it is kept in
    `oltp.stock_slot_changes`. In JSON: variant_id, location_id, slots_before, slots, on_hand, reserved.
    """
    from stack.composition.hot_stock import find_hot_stock

    by = f"{getpass.getuser()} on {socket.gethostname()}: {reason}".removesuffix(": ")
    with open_servers() as (values, _):
        found = find_hot_stock(values, merchant, sku, location)
        shown = found.change(is_spread=not fold, reason=by, is_preview=True)
        if not is_said(_intent(sku, shown), dry_run, as_json):
            return
        done = found.change(is_spread=not fold, reason=by, is_preview=False)
    if as_json:
        print_json(msgspec.to_builtins(done))
    else:
        answers().print(_done(sku, done), markup=False)


def _intent(sku: str, shown: StockLayout) -> Intent:
    if shown.slots == shown.slots_before:
        what = f"{sku} at {shown.location_id} has {_slots(shown.slots)} already; nothing will change."
    else:
        what = f"{sku} at {shown.location_id} will have {_slots(shown.slots)} instead of {shown.slots_before}."
    return Intent(
        what=what,
        question="Go on?",
        details=[f"The level stays: {shown.on_hand} units on hand, {shown.reserved} of them reserved."],
        document=msgspec.to_builtins(shown),
    )


def _done(sku: str, done: StockLayout) -> str:
    if done.slots == done.slots_before:
        return f"{sku} at {done.location_id} had {_slots(done.slots)} already."
    return f"{sku} at {done.location_id} has {_slots(done.slots)} now; {done.on_hand} units on hand as before."


def _slots(number: int) -> str:
    return counted(number, "counter", "counters")
