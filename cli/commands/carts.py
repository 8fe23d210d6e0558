"""`tieout carts`: how far pods are behind Valkey's carts, whether both stores agree, and the repair.

Belongs here: that command and what it prints. Does not belong here: comparing and repairing
(`stack/composition/carts.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.console import answers, print_json
from cli.conventions import FAILED, AsJson
from contracts.ownership import CART
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import Verdict
from stack import settings

SHOWN = 20


def add_commands(app: typer.Typer) -> None:
    """Add `tieout carts`."""
    app.command()(carts)


def carts(
    repair: Annotated[
        bool, typer.Option("--repair", help="Merge the carts that differ, as `tieout repair` does, then compare again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare carts in Valkey with those in their pods, both ways, and say how many wait to be written through.

    A cart that differs is looked at again after the time in which it must have been written, so a cart that is on its
    way does not count. Exit code 1 when carts differ, cannot be compared, or were put aside because a pod refuses them.
    """
    from stack.composition.carts import CartKeeper, cart_keepers

    def of_pod(keeper: CartKeeper) -> dict[str, Any]:
        found = keeper.compare()
        number, seconds = keeper.valkey.waiting(keeper.pod)
        aside = [key.text for key in keeper.valkey.aside(keeper.pod)]
        return {**asdict(found), "sentence": found.sentence, "waiting": number, "seconds": seconds, "aside": aside}

    values = settings.load_settings()
    if repair:
        _repair(values)
    with cart_keepers(values) as keepers:
        pods = [of_pod(keeper) for keeper in keepers]
    if as_json:
        print_json({"pods": pods})
    else:
        for pod in pods:
            _show(pod)
    if any(pod["verdict"] in (Verdict.INCONSISTENT, Verdict.UNKNOWN) or pod["aside"] for pod in pods):
        raise typer.Exit(FAILED)


def _repair(values: Settings) -> None:
    """Record what differs in the ledger of breaks, and repair these breaks."""
    from repair.repair_run import repair_breaks
    from stack.composition.reconciling import reconcile_now
    from stack.composition.repairing import repairing_tools

    reconcile_now(values, SILENT, None, pairs=CART.found_by)
    with repairing_tools(values, SILENT) as tools:
        repair_breaks(tools, pairs=CART.found_by)


def _show(pod: dict[str, Any]) -> None:
    answers().print(pod["sentence"])
    waiting = counted(pod["waiting"], "cart waits", "carts wait")
    answers().print(f"  {waiting} to be written through, the first for {pod['seconds']:.1f} s.")
    for item in pod["differences"][:SHOWN]:
        answers().print(f"  {item['kind']}: {item['key']['cart_id']} of {item['key']['merchant_id']}")
    for text in pod["aside"][:SHOWN]:
        answers().print(f"  put aside: {text}")
