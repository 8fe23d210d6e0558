"""The command `tieout alerts`: the messages that were sent, those that wait, and whether their delivery works.

Belongs here: options and what is printed, but no address of a target: it may contain a password. Does not belong
here: which messages are due (`repair/alerts/deciding.py`), writing and sending them (`stack/upkeep/alerting.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.settings import Settings
from contracts.text import counted
from stack.composition import session
from stack.composition.migrations import migrate_everything

if TYPE_CHECKING:
    from repair.alerts.deciding import Alert, PathState
    from repair.alerts.queue import Message
    from stack.upkeep.alerting import Told

SHOWN = 20


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="alerts")(alerts)


def alerts(
    send: Annotated[bool, typer.Option("--send", help="Send what waits now, also what was given up.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to every target.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which alerts were sent, which wait and why, and whether the way to people works.

    Targets are addresses of Apprise (mail, chat, webhooks) in TIEOUT_ALERT_URLS, comma separated; TIEOUT_DIGEST_URLS
    are those of finance, if others. With --send or --test exit code 1 if something did not get through.
    """
    from repair.alerts.deciding import path_state
    from repair.alerts.queue import heartbeat, latest_alerts, pending_alerts
    from stack.upkeep.alerting import tell, wanted_messages, write_test
    from streams.clocks import database_clock

    told: Told | None = None
    with session.ended_by_signals(), session.open_session(ConsoleProgress()) as values:
        migrate_everything(values)
        if test:
            write_test(values)
        if send or test:
            told = tell(values, is_forced=send)
        dsn = values.control_dsn
        now = database_clock(dsn)()
        due = wanted_messages(values, now).messages
        waiting = pending_alerts(dsn)
        state = path_state(heartbeat(dsn), waiting, now)
        newest = latest_alerts(dsn, limit=SHOWN)
    if as_json:
        print_json(_as_json(values, state, due, waiting, newest, told))
    else:
        _show(values, state, due, newest, told)
    if told is not None and (told.sent.failed or not told.targets):
        raise typer.Exit(FAILED)


def status_of(alert: Alert) -> str:
    """Return the state of a message in one or two words."""
    if alert.sent_at is not None:
        return "sent"
    if alert.withdrawn_at is not None:
        return "not sent"
    if alert.is_given_up:
        return "given up"
    return "failing" if alert.error else "waiting"


def _as_json(
    values: Settings,
    state: PathState,
    due: tuple[Message, ...],
    waiting: list[Alert],
    newest: list[Alert],
    told: Told | None,
) -> dict[str, Any]:
    return {
        "is_alive": state.is_alive,
        "reason": state.reason,
        "targets": len(values.alert_urls),
        "digest_targets": len(values.digest_urls),
        "due": [{"kind": item.kind, "group_id": item.group_id, "title": item.title, "body": item.body} for item in due],
        "waiting": [_alert_json(alert) for alert in waiting],
        "newest": [_alert_json(alert) for alert in newest],
        "delivered": None if told is None else list(told.sent.delivered),
        "failed": None if told is None else [{"alert_id": number, "error": why} for number, why in told.sent.failed],
    }


def _alert_json(alert: Alert) -> dict[str, Any]:
    return {**vars(alert), "status": status_of(alert)}


def _show(values: Settings, state: PathState, due: tuple[Message, ...], newest: list[Alert], told: Told | None) -> None:
    console = answers()
    rows = [
        (
            alert.alert_id,
            f"{alert.created_at:%Y-%m-%d %H:%M:%S}",
            alert.kind.value,
            status_of(alert),
            alert.attempts,
            alert.title,
            alert.error,
        )
        for alert in newest
    ]
    headings = ("Alert", "Written (UTC)", "Kind", "Status", "Attempts", "Title", "Why not")
    if rows:
        console.print(table("Newest messages", headings, rows, numbers_from=99))
    else:
        console.print("No message was ever written.")
    for message in due:
        console.print(f"Would be written now: {message.title}")
    if told is not None:
        console.print(
            f"{counted(len(told.sent.delivered), 'message')} delivered, {len(told.sent.failed)} refused by some target."
        )
    console.print(f"Targets: {len(values.alert_urls)}, for digests {len(values.digest_urls)}.")
    console.print(f"The way to people {'works' if state.is_alive else 'is not proven'}: {state.reason}")
