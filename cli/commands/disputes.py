"""Commands on disputes about payments: looking at them, and recording by hand what the payment provider says.

Belongs here: `tieout disputes ...` and what it prints. Does not belong here: how it is done
(`stack/composition/disputes.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape

from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from cli.saying import is_name, is_reason
from contracts.errors import InputError
from contracts.events.payment import DisputeStatus
from contracts.limits import UUID
from contracts.money import format_minor
from stack.composition import session

if TYPE_CHECKING:
    from contracts.events.payment import PaymentState
    from oltp.commands.record_dispute import RecordDispute

LISTED_MAX = 1_000
DisputeId = Annotated[str, typer.Argument(help="The dispute's id, as `tieout disputes list` shows it.")]

commands = typer.Typer(no_args_is_help=True, help="Disputes: a customer's bank asks the money of a payment back.")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (("list", list_disputes), ("show", show), ("record", record)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="disputes")


def list_disputes(
    merchant: Annotated[str | None, typer.Option("--merchant", help="Only of this merchant.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that were won or lost.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LISTED_MAX, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the disputes that are open, the newest first."""
    from stack.composition.disputes import all_disputes

    with session.open_session(ConsoleProgress()) as values:
        found = all_disputes(values, merchant_id=merchant, is_ended=ended, limit=limit)
    if as_json:
        print_json({"disputes": found})
        return
    rows = [
        (
            one["payment_dispute_id"],
            escape(one["merchant_id"]),
            escape(one["provider_reference"]),
            one["status"],
            format_minor(one["amount_minor"], one["currency"]),
            format_minor(one["fee_minor"], one["currency"]),
            f"{one['opened_at'][:19]}",
            escape(one["reason"]),
        )
        for one in found
    ]
    headings = ("Id", "Merchant", "Provider's name", "State", "Amount", "Fee", "Since (UTC)", "Why")
    answers().print(table("Disputes about payments", headings, rows, numbers_from=99))


def show(dispute_id: DisputeId, as_json: AsJson = False) -> None:
    """Show a dispute, and what the provider or a person has said of disputes about its payment."""
    from stack.composition.disputes import dispute_shown

    if UUID.problem(dispute_id):
        raise InputError(f"{dispute_id!r} is not the id of a dispute; `tieout disputes list` shows them.")
    with session.open_session(ConsoleProgress()) as values:
        found = dispute_shown(values, dispute_id)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if name != "said":
            answers().print(f"{name}: {value}", markup=False)
    for one in found["said"]:
        answers().print(_said(one), markup=False)


def record(
    status: Annotated[DisputeStatus, typer.Argument(help="What happened to it.")],
    merchant: Annotated[str, typer.Option("--merchant", help="The merchant's id.")],
    payment: Annotated[str, typer.Option("--payment", help="The id of the disputed payment.")],
    reference: Annotated[str, typer.Option("--reference", help="The provider's name of the dispute.")],
    reason: Annotated[str, typer.Option("--reason", callback=is_reason, help="Why you record it; it is kept.")],
    by: Annotated[str, typer.Option("--by", callback=is_name, help="Your name; it is kept, too.")],
    amount_minor: Annotated[int, typer.Option("--amount-minor", help="Opened: what is disputed, in minor units.")] = 0,
    fee_minor: Annotated[int, typer.Option("--fee-minor", help="Opened: what the provider keeps for it.")] = 0,
    bank_reason: Annotated[str, typer.Option("--bank-reason", help="Opened: why the customer's bank asks.")] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Record that a dispute was opened, won or lost, where the provider's notification does not come.

    A notification of the same, before or after, changes nothing more. In JSON: merchant_id, payment_id, currency,
    dispute, is_new, notification_id.
    """
    from oltp.commands.record_dispute import RecordDispute
    from stack.composition.disputes import record_now, standing_of

    command = RecordDispute(
        merchant_id=merchant,
        payment_id=payment,
        provider_reference=reference,
        status=status,
        amount_minor=amount_minor,
        fee_minor=fee_minor,
        reason=bank_reason,
        recorded_by=by,
        recorded_because=reason,
    )
    if UUID.problem(payment):
        raise InputError(f"{payment!r} is not the id of a payment.")
    with session.open_session(ConsoleProgress()) as values:
        intent = _intent(command, *standing_of(values, command))
        if not is_agreed(intent, is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        done = record_now(values, command)
    if as_json:
        print_json(msgspec.to_builtins(done))
        return
    said = "is recorded as" if done.is_new else "was recorded already, and is"
    answers().print(f"Dispute {reference} of payment {payment} {said} {done.dispute.status}.", markup=False)


def _intent(command: RecordDispute, payment: PaymentState, known: DisputeStatus | None) -> Intent:
    currency = payment.currency
    what = f"Dispute {command.provider_reference} about payment {command.payment_id} of {command.merchant_id}"
    details = [f"The books have it as {known}." if known else "The books do not have it yet."]
    if command.status is DisputeStatus.OPENED:
        details.append(
            f"{format_minor(command.amount_minor, currency)} are held, and the provider keeps "
            f"{format_minor(command.fee_minor, currency)}."
        )
    elif command.status is DisputeStatus.WON:
        details.append("What is held is the merchant's again; the fee stays.")
    else:
        details.append("What is held is the customer's; the fee stays.")
    document = {"known_status": known, "payment": msgspec.to_builtins(payment), **msgspec.to_builtins(command)}
    return Intent(
        what=f"{what} will be recorded as {command.status}. This cannot be undone.",
        question="Record it?",
        details=details,
        document=document,
    )


def _said(one: dict[str, Any]) -> str:
    who = f"{one['decided_by']}: {one['reason']}" if one["decided_by"] else one["reason"]
    return f"said: {one['received_at'][:19]} {one['kind']} ({one['provider']}, {one['event_id']}, {one['state']}) {who}"
