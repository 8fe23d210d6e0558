"""Alerts: writes messages about the ledger's incidents, and sends them to the targets in the settings.

Dagster's sensor does this twice a minute (`orchestration/alerts.py`), and a person can do it with
`tieout alerts --send`. Two senders at the same time send nothing twice, because a sender claims a message before it
sends it.

Belongs here: composing the parts of `repair/` for one run of the sender. Does not belong here: the rules
(`repair/alerts/deciding.py`), the texts, the sending of a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.breaks import Break, BreakGroup, BreakState
from contracts.clock import Clock
from contracts.ownership import copy_named
from contracts.settings import Settings
from reconcile.comparison_run import Comparison
from reconcile.coverage import read_coverage
from reconcile.figures import total_figures
from reconcile.pairs import PAIRS, pairs_of
from reconcile.results import latest_results, unknown_since
from repair.alerts.deciding import AlertKind, Due, Heartbeat, Withdrawal, decide
from repair.alerts.digest import Books, digest_text
from repair.alerts.near_limits import near_message
from repair.alerts.overdue import due_message, overdue
from repair.alerts.queue import (
    Message,
    alerts_about,
    beat,
    groups_to_follow,
    heartbeat,
    last_written_at,
    told_groups,
    write,
)
from repair.alerts.sending import Sent, Target, build_targets, send_pending
from repair.alerts.texts import Concern, incident_text
from repair.ledger import breaks, find_group, groups
from repair.ledger.incidents import ended_group_ids
from stack.looking.headroom import limit_uses
from stack.looking.outlook import next_to_close
from streams.clocks import database_clock

ALIVE_SECONDS = 24 * 3600
NO_TARGET = "No target is set."
BREAKS_READ = 200
"""Number of breaks of an incident that we read for its text; the counts in the text are of all breaks."""
UNSETTLED_FIRST = (BreakState.ESCALATED, BreakState.OPEN, BreakState.REPAIRING)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The messages that are due now, and the withdrawals."""

    messages: tuple[Message, ...]
    withdrawals: tuple[Withdrawal, ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """The result of one run of the sender."""

    written: int
    sent: Sent
    targets: int


def tell(settings: Settings, *, clock: Clock | None = None, is_forced: bool = False) -> Told:
    """Write the messages that are due, send the waiting ones, and record that the sender ran.

    `clock`: by default the control database's clock, because all senders must agree when the claim of a message ends.
    """
    clock = clock or database_clock(settings.control_dsn)
    now = clock()
    targets = targets_of(settings)
    wanted = wanted_messages(settings, now)
    written = write(settings.control_dsn, wanted.messages, now, withdrawals=wanted.withdrawals)
    sent = send_pending(settings.control_dsn, targets, clock=clock, is_forced=is_forced)
    beat(settings.control_dsn, Heartbeat(ran_at=clock(), targets=len(settings.alert_urls)))
    return Told(written=written, sent=sent, targets=len(settings.alert_urls))


def targets_of(settings: Settings) -> dict[AlertKind, Sequence[Target]]:
    """Return the targets of each kind of message."""
    alerted, digested = build_targets(settings.alert_urls), build_targets(settings.digest_urls)
    return {kind: digested if kind is AlertKind.DIGEST else alerted for kind in AlertKind}


def wanted_messages(settings: Settings, now: datetime) -> Wanted:
    """Return the messages that are due and not yet written, with the daily sign of life if it is time for it."""
    dsn = settings.control_dsn
    unended = groups(dsn)
    known = {group.group_id for group in unended}
    followed = [find_group(dsn, group_id) for group_id in groups_to_follow(dsn) if group_id not in known]
    every = [*unended, *followed]
    decided = decide(every, alerts_about(dsn, [group.group_id for group in every]))
    messages = [_incident_message(dsn, due) for due in decided.due]
    if (message := _overdue_message(settings, now)) is not None:
        messages.append(message)
    if (message := _near_message(settings)) is not None:
        messages.append(message)
    if settings.alert_urls and _is_sign_due(dsn, now):
        messages.append(_sign_of_life(unended, now))
    return Wanted(messages=tuple(messages), withdrawals=decided.withdrawn)


def _overdue_message(settings: Settings, now: datetime) -> Message | None:
    dsn = settings.control_dsn
    wanted = [(pair.name, pod.pod) for pair in pairs_of(settings) for pod in settings.pods]
    found = overdue(wanted, read_coverage(dsn), latest_results(dsn), now, unknown_since(dsn))
    told_at, over_at = (last_written_at(dsn, kind) for kind in (AlertKind.OVERDUE, AlertKind.IN_TIME))
    return due_message(found, heartbeat(dsn), told_at, over_at, now)


def _near_message(settings: Settings) -> Message | None:
    told_at, over_at = (
        last_written_at(settings.control_dsn, kind) for kind in (AlertKind.NEAR_LIMIT, AlertKind.ROOM_AGAIN)
    )
    return near_message(limit_uses(settings), told_at, over_at)


def _incident_message(control_dsn: str, due: Due) -> Message:
    title, body = incident_text(due, concern_of(due.group.pair), _breaks_for(control_dsn, due))
    return Message(kind=due.kind, group_id=due.group.group_id, episode=due.episode, title=title, body=body)


def _breaks_for(control_dsn: str, due: Due) -> list[Break]:
    group_id = due.group.group_id
    if due.kind is AlertKind.RESOLVED:
        return breaks(control_dsn, group_id=group_id, limit=BREAKS_READ)
    found = [breaks(control_dsn, group_id=group_id, states=[state], limit=BREAKS_READ) for state in UNSETTLED_FIRST]
    return [item for of_state in found for item in of_state]


def concern_of(pair_name: str) -> Concern:
    """Return what a pair compares; a pair that no longer exists gets a concern with its name."""
    for pair in PAIRS:
        if pair.name == pair_name:
            copy = copy_named(pair.copy) if pair.copy else None
            return Concern(pair=pair.name, left=pair.left, right=pair.right, copy=copy)
    return Concern(pair=pair_name, left="the owner", right=pair_name, copy=None)


def _is_sign_due(control_dsn: str, now: datetime) -> bool:
    last = last_written_at(control_dsn, AlertKind.ALIVE)
    return last is None or now - last >= timedelta(seconds=ALIVE_SECONDS)


def _sign_of_life(unended: Sequence[BreakGroup], now: datetime) -> Message:
    total = {state: sum(group.counts.get(state, 0) for group in unended) for state in BreakState}
    shown = ", ".join(f"{total[state]:,} {state}" for state in BreakState if total[state]) or "none"
    body = (
        f"Alerts of Tieout reach you. Breaks that have not ended: {shown}.\n"
        "This message comes once a day. If it does not, look after the alerts: docs/runbooks/alerts.md"
    )
    return Message(kind=AlertKind.ALIVE, title="[Tieout] Alive", body=body, subject=f"{now:%Y-%m-%d %H:%M}")


def write_test(settings: Settings, *, clock: Clock | None = None) -> None:
    """Write a message that tests whether alerts arrive; the next run of the sender sends it."""
    now = (clock or database_clock(settings.control_dsn))()
    message = Message(
        kind=AlertKind.TEST,
        title="[Tieout] Test",
        body=f"Somebody tried at {now:%Y-%m-%d %H:%M:%S} UTC whether alerts arrive. This one did.",
        subject=now.isoformat(),
    )
    write(settings.control_dsn, [message], now)


def write_digest(settings: Settings, comparison: Comparison, run: str, *, clock: Clock | None = None) -> bool:
    """Write the digest of a scheduled comparison, once per run; return whether it is new."""
    clock = clock or database_clock(settings.control_dsn)
    now = clock()
    dsn = settings.control_dsn
    since = last_written_at(dsn, AlertKind.DIGEST)
    different = [figure for figure in comparison.figures if figure.difference != 0]
    books = Books(
        results=comparison.results,
        figures=[*total_figures(comparison.figures), *different],
        groups=groups(dsn),
        quiet=_quiet_groups(dsn, since, now),
        run=run,
        at=now,
        closing=next_to_close(settings, clock=clock).sentence,
    )
    title, body = digest_text(books)
    unsent = "" if settings.digest_urls else NO_TARGET
    message = Message(kind=AlertKind.DIGEST, title=title, body=body, subject=run, not_sent_because=unsent)
    return write(dsn, [message], now) > 0


def _quiet_groups(control_dsn: str, since: datetime | None, now: datetime) -> list[BreakGroup]:
    """Return the incidents that ended after `since` (by default: in the last day) and of which nobody was told."""
    ended = ended_group_ids(control_dsn, since or now - timedelta(days=1))
    told = told_groups(control_dsn, ended)
    return [find_group(control_dsn, group_id) for group_id in ended if group_id not in told]
