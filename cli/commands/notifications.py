"""Commands on the payment provider's notifications that wait or are parked, and a person's decision about a parked one.

Belongs here: `tieout notifications ...` and what it prints. Does not belong here: the notifications
(`oltp/notifying.py`).
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
from contracts.settings import Settings
from stack.composition import session

if TYPE_CHECKING:
    from oltp.store.notifications import Stored

EventId = Annotated[str, typer.Argument(help="The provider's id, as `tieout notifications list` shows it.")]
Reason = Annotated[str, typer.Option("--reason", callback=is_reason, help="Why; it is kept with the notification.")]
By = Annotated[str, typer.Option("--by", callback=is_name, help="Your name; it is kept, too.")]
LISTED_MAX = 100

commands = typer.Typer(no_args_is_help=True, help="What the payment provider says and the books do not have.")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (("list", list_notifications), ("show", show), ("retry", retry), ("dismiss", dismiss)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="notifications")


def list_notifications(as_json: AsJson = False) -> None:
    """List the notifications that wait or need a person, the oldest first."""
    from oltp.notifying import open_notifications

    with session.open_session(ConsoleProgress()) as values:
        found = [(pod.pod, one) for pod in values.pods for one in open_notifications(pod.reader_dsn, limit=LISTED_MAX)]
    if as_json:
        print_json({"notifications": [_json(pod, one) for pod, one in found]})
        return
    rows = [
        (
            escape(one.event_id),
            pod,
            escape(one.merchant_id),
            escape(one.kind),
            one.state,
            f"{one.received_at:%F %T}",
            escape(one.reason),
        )
        for pod, one in found
    ]
    headings = ("Id", "Pod", "Merchant", "What happened", "State", "Since (UTC)", "Why")
    answers().print(table("Notifications of the payment provider", headings, rows, numbers_from=99))


def show(event_id: EventId, as_json: AsJson = False) -> None:
    """Show a notification as the provider sent it, in any state, and what became of it."""
    with session.open_session(ConsoleProgress()) as values:
        pod, one = _find(values, event_id)
    if as_json:
        print_json(_json(pod, one))
        return
    for name, value in _json(pod, one).items():
        answers().print(f"{name}: {value}", markup=False)


def retry(event_id: EventId, reason: Reason, by: By, as_json: AsJson = False) -> None:
    """Try a parked notification again, after what it contradicted was put right."""
    from oltp.commands.execute import build_command_pod
    from oltp.notifying import apply_notification, decide

    with session.open_session(ConsoleProgress()) as values:
        pod, one = _find(values, event_id)
        with build_command_pod(values.pod(pod), connections_max=1) as opened:
            decide(opened, one, is_dismissed=False, reason=reason, decided_by=by)
            settlement = apply_notification(opened, one.provider, one.event_id, one.merchant_id)
    if as_json:
        print_json({"id": event_id, **msgspec.to_builtins(settlement)})
    else:
        answers().print(f"{event_id} is {settlement.state}. {settlement.reason}".strip(), markup=False)


def dismiss(
    event_id: EventId,
    reason: Reason,
    by: By,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """End a parked notification without recording anything, when it is settled in another way."""
    from oltp.commands.execute import build_command_pod
    from oltp.notifying import decide

    with session.open_session(ConsoleProgress()) as values:
        pod, one = _find(values, event_id)
        intent = Intent(
            what=f"{one.kind} of {one.merchant_id} ({event_id}) ends, and nothing is recorded for it. "
            "This cannot be undone.",
            question="Dismiss it?",
            details=(f"It is {one.state}: {one.reason}", f"The provider said: {one.body}"),
            document=_json(pod, one),
        )
        if not is_agreed(intent, is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        with build_command_pod(values.pod(pod), connections_max=1) as opened:
            decide(opened, one, is_dismissed=True, reason=reason, decided_by=by)
    if as_json:
        print_json({"id": event_id, "state": "dismissed"})
    else:
        answers().print(f"{event_id} is dismissed.", markup=False)


def _find(values: Settings, event_id: str) -> tuple[str, Stored]:
    from oltp.notifying import find_notification

    return find_notification([(pod.pod, pod.reader_dsn) for pod in values.pods], event_id)


def _json(pod: str, one: Stored) -> dict[str, Any]:
    return {"pod": pod, **msgspec.to_builtins(one)}
