"""The command `tieout breaks accept`: shows the breaks with their amounts, asks, and records the acceptance.

Belongs here: its options, and what it shows. Does not belong here: the other commands on breaks (`breaks.py`).
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli.commands.breaks import (
    UNENDED,
    BreakIds,
    By,
    GroupId,
    amounts_text,
    breaks_table,
    chosen_breaks,
    commands,
    open_ledger,
    say_done,
    shown_key,
)
from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.conventions import AsJson
from cli.saying import is_reason
from contracts.breaks import TRANSITIONS, Break, BreakState
from contracts.money import amount_name, in_major_units
from contracts.text import counted
from repair import ledger

ACCEPTED_SHOWN = 20


def add_commands() -> None:
    """Add the command of this module to those on breaks."""
    commands.command(name="accept")(accept)


def accept(
    reason: Annotated[
        str, typer.Option(callback=is_reason, help="Why the difference may stay; kept with it, and shown in reports.")
    ],
    break_ids: BreakIds = None,
    group: GroupId = None,
    by: By = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Accept a difference: it stays listed, and nobody repairs it or is told of it any more.

    First the breaks are shown, with what they come to in money, and somebody agrees. What is accepted is this
    difference: when a later comparison finds another amount, the break is open again.
    """
    chosen = chosen_breaks(break_ids, group)
    with open_ledger() as values:
        shown = _that_can_be_accepted(values.control_dsn, chosen)
        if not is_agreed(_accepting(shown, reason), is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        ids = [one.break_id for one in shown]
        changed = ledger.accept(values.control_dsn, reason=reason, by=by or getpass.getuser(), break_ids=ids)
    say_done("Accepted", changed, as_json)


def _that_can_be_accepted(control_dsn: str, chosen: dict[str, Any]) -> list[Break]:
    """Return the named breaks, or the incident's breaks that may be accepted; if none may, its unended breaks."""
    if chosen["break_ids"] is not None:
        return [ledger.find_break(control_dsn, one) for one in chosen["break_ids"]]
    ledger.find_group(control_dsn, chosen["group_id"])
    found = ledger.breaks(control_dsn, group_id=chosen["group_id"], states=UNENDED, limit=None)
    return [one for one in found if BreakState.ACCEPTED in TRANSITIONS[one.state]] or found


def _accepting(shown: Sequence[Break], reason: str) -> Intent:
    """Return the preview of the acceptance: the breaks, and the sums of their amounts."""
    merchants = sorted({one.merchant_id for one in shown if one.merchant_id})
    sums: dict[tuple[str, str], int] = {}
    for one in shown:
        for item in one.columns:
            if item.difference is not None:
                place = (item.column, one.currency or "")
                sums[place] = sums.get(place, 0) + item.difference
    details = [
        f"In sum, {amount_name(column)}: finance less operations is {_total(column, value, currency)}."
        for (column, currency), value in sorted(sums.items())
    ]
    if merchants:
        details.append(f"Of {counted(len(merchants), 'merchant')}: {', '.join(merchants[:ACCEPTED_SHOWN])}.")
    details.append("Reports and certificates will say `Ties but for`; `tieout breaks reopen` takes it back.")
    rows = [
        (
            one.break_id,
            one.pair,
            f"{one.entity} {shown_key(one.key)}",
            one.merchant_id or "-",
            one.day or "-",
            amounts_text(one.columns, one.currency) or one.kind,
        )
        for one in shown[:ACCEPTED_SHOWN]
    ]
    more = f", the first {ACCEPTED_SHOWN}" if len(shown) > ACCEPTED_SHOWN else ""
    headings = ("Break", "Pair", "What", "Merchant", "Day", "Difference")
    return Intent(
        what=f"{counted(len(shown), 'break')} will be accepted: {reason}",
        question="Accept?",
        details=details,
        tables=[breaks_table(f"What is accepted{more}", headings, rows)],
        document={"breaks": [one.as_json() for one in shown], "reason": reason, "dry_run": True},
    )


def _total(column: str, value: int, currency: str) -> str:
    return in_major_units(column, value, currency) or f"{value:+,}"
