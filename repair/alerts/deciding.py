"""Decides which alerts are due: pure, from groups of breaks and the earlier alerts about them.

A group of breaks is one incident. People get at most three alerts per incident: that it opened, that it needs a person,
that it is settled. When a settled incident comes back (a break is reopened, or new keys join), a new episode begins,
with alerts of its own. This module does not know lag: a late copy has no breaks, so there is no alert. An incident that
ended before anybody was alerted causes no alert; the digest counts it.

Belongs here: the rules and their values. Does not belong here: texts (`texts.py`), the table and its claims
(`queue.py`), sending (`sending.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from contracts.breaks import UNSETTLED, BreakGroup, BreakState
from contracts.text import counted

RETRY_SECONDS_MIN = 30
RETRY_SECONDS_MAX = 3600
ATTEMPTS_MAX = 40
"""Attempts per message, over more than a day. Then it is given up and stays listed; the alert path's check fails."""


class AlertKind(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    """An incident began."""
    ESCALATED = "escalated"
    """An incident needs a person: code must not repair it, or repairs did not remove the difference."""
    RESOLVED = "resolved"
    """An incident that people were alerted about is settled."""
    UNMET = "unmet"
    """Expectations about rows do not hold (`unmet.py`)."""
    MET = "met"
    """Expectations that did not hold are met again."""
    OVERDUE = "overdue"
    """Something was not compared within the stated time (`overdue.py`)."""
    IN_TIME = "in_time"
    """Everything is compared in time again."""
    NEAR_LIMIT = "near_limit"
    """Memory, disk, connections or a queue are nearly used up (`near_limits.py`)."""
    ROOM_AGAIN = "room_again"
    """Use is well below every limit again."""
    OUTAGE = "outage"
    """A server or a worker does not answer (`outages.py`)."""
    OUTAGE_OVER = "outage_over"
    """It answers again."""
    BEHIND = "behind"
    """A copy lags more than the largest allowed lag (`outages.py`)."""
    CAUGHT_UP = "caught_up"
    """The copy is within its freshness target again."""
    DIGEST = "digest"
    """The result of a scheduled comparison, for finance."""
    ALIVE = "alive"
    """Nothing happened. When this daily message does not arrive, the alert path is broken."""
    TEST = "test"
    """A person tests whether messages arrive."""


INCIDENT_KINDS = (AlertKind.OPENED, AlertKind.ESCALATED, AlertKind.RESOLVED)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One message, sent or to be sent."""

    alert_id: int
    kind: AlertKind
    group_id: int | None
    """The incident; None for a message about something else."""
    episode: int
    subject: str
    """Makes a message without incident unique within its kind, e.g. a run or a day."""
    title: str
    body: str
    created_at: datetime
    next_attempt_at: datetime
    attempts: int
    delivered_to: tuple[str, ...]
    """Fingerprints of the targets that accepted it; it is sent again only to the others."""
    sent_at: datetime | None
    """When the last target accepted it; None until all have."""
    withdrawn_at: datetime | None
    """When it was decided not to send it; None: it was not."""
    error: str
    """Why the last attempt failed, without secrets."""

    @property
    def is_told(self) -> bool:
        """Whether at least one target accepted it."""
        return self.sent_at is not None or bool(self.delivered_to)

    @property
    def is_given_up(self) -> bool:
        """Whether all ATTEMPTS_MAX attempts failed."""
        return self.is_pending and self.attempts >= ATTEMPTS_MAX

    @property
    def is_pending(self) -> bool:
        """Whether it still has to be sent."""
        return self.sent_at is None and self.withdrawn_at is None


@dataclass(frozen=True, kw_only=True)
class Due:
    """A message that must be written."""

    kind: AlertKind
    group: BreakGroup
    episode: int


@dataclass(frozen=True, kw_only=True)
class Withdrawal:
    """A written message that was not sent and must not be sent any more."""

    alert_id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The messages to write and to withdraw now."""

    due: tuple[Due, ...] = ()
    withdrawn: tuple[Withdrawal, ...] = ()


def decide(groups: Iterable[BreakGroup], alerts: Sequence[Alert]) -> Decisions:
    """Return the messages that are due, and those to withdraw; `alerts` are all earlier messages about these groups."""
    due: list[Due] = []
    withdrawn: list[Withdrawal] = []
    for group in groups:
        about = [alert for alert in alerts if alert.group_id == group.group_id and alert.withdrawn_at is None]
        decided = _decide_unsettled(group, about) if unsettled_breaks(group) else _decide_settled(group, about)
        due += decided.due
        withdrawn += decided.withdrawn
    return Decisions(due=tuple(due), withdrawn=tuple(withdrawn))


def unsettled_breaks(group: BreakGroup) -> int:
    """Return the number of breaks of an incident that are neither ended nor accepted."""
    return sum(number for state, number in group.counts.items() if state in UNSETTLED)


def _decide_unsettled(group: BreakGroup, about: Sequence[Alert]) -> Decisions:
    episode = max((alert.episode for alert in about), default=1)
    withdrawn: list[Withdrawal] = []
    resolved = _of_kind(about, AlertKind.RESOLVED, episode)
    if resolved is not None and resolved.is_told:
        episode += 1
    elif resolved is not None:
        withdrawn.append(Withdrawal(alert_id=resolved.alert_id, reason="The incident came back."))
    opened = _of_kind(about, AlertKind.OPENED, episode)
    escalated = _of_kind(about, AlertKind.ESCALATED, episode)
    is_escalated = group.counts.get(BreakState.ESCALATED, 0) > 0
    if is_escalated and escalated is None:
        if opened is not None and opened.is_pending and not opened.is_told:
            withdrawn.append(Withdrawal(alert_id=opened.alert_id, reason="It needs a person by now, which says more."))
        return Decisions(due=(Due(kind=AlertKind.ESCALATED, group=group, episode=episode),), withdrawn=tuple(withdrawn))
    if opened is None and escalated is None:
        return Decisions(due=(Due(kind=AlertKind.OPENED, group=group, episode=episode),), withdrawn=tuple(withdrawn))
    return Decisions(withdrawn=tuple(withdrawn))


def _decide_settled(group: BreakGroup, about: Sequence[Alert]) -> Decisions:
    episode = max((alert.episode for alert in about), default=1)
    calls = [
        alert
        for kind in (AlertKind.OPENED, AlertKind.ESCALATED)
        if (alert := _of_kind(about, kind, episode)) is not None
    ]
    withdrawn = tuple(
        Withdrawal(alert_id=alert.alert_id, reason="The incident was settled before anyone was told.")
        for alert in calls
        if alert.is_pending and not alert.is_told
    )
    is_told = any(alert.is_told for alert in calls)
    if is_told and _of_kind(about, AlertKind.RESOLVED, episode) is None:
        due = (Due(kind=AlertKind.RESOLVED, group=group, episode=episode),)
        return Decisions(due=due, withdrawn=withdrawn)
    return Decisions(withdrawn=withdrawn)


def _of_kind(about: Iterable[Alert], kind: AlertKind, episode: int) -> Alert | None:
    return next((alert for alert in about if alert.kind is kind and alert.episode == episode), None)


def retry_at(now: datetime, attempts: int) -> datetime:
    """Return the time of the next retry: the wait doubles with every failed attempt, up to an hour."""
    doubled = RETRY_SECONDS_MIN * 2 ** min(max(attempts - 1, 0), 20)
    return now + timedelta(seconds=min(doubled, RETRY_SECONDS_MAX))


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What is known about the sender: when it ran, and when a message of it arrived."""

    ran_at: datetime | None = None
    """When it last looked for messages to send."""
    delivered_at: datetime | None = None
    """When a target last accepted a message."""
    failed_at: datetime | None = None
    """When a target last failed to accept one."""
    targets: int | None = None
    """Number of its targets when it last ran, without those that get only the digest."""
    up_since: datetime | None = None
    """Since when it has run without a pause of more than SENDER_SECONDS_MAX; the table computes it."""


@dataclass(frozen=True, kw_only=True)
class PathState:
    """Whether an alert about an incident would reach people."""

    is_alive: bool
    is_broken: bool
    """Whether a configured alert path does not work. False when no target is configured."""
    reason: str


SENDER_SECONDS_MAX = 300
"""The sender runs twice a minute. If it has not run for this long, no messages are sent."""
DELIVERY_SECONDS_MAX = 26 * 3600
"""The sender sends a message every day. Without a delivery for this long, the alert path is broken."""
OLDEST_SECONDS_MAX = 900
"""If a message waits for longer than this, the alert path is broken."""


def path_state(beat: Heartbeat, pending: Sequence[Alert], now: datetime) -> PathState:
    """Return whether the alert path works: a sender runs, and a target is configured and accepted a message lately."""
    if beat.ran_at is None:
        return _broken("Nothing has ever looked for alerts to send; start its worker (`tieout up`).")
    if (now - beat.ran_at).total_seconds() > SENDER_SECONDS_MAX:
        return _broken(f"Nothing has looked for alerts to send since {beat.ran_at:%Y-%m-%d %H:%M:%S} UTC.")
    if not beat.targets:
        return PathState(
            is_alive=False, is_broken=False, reason="No target is set (TIEOUT_ALERT_URLS): nobody is told of anything."
        )
    given_up = sum(alert.is_given_up for alert in pending)
    if given_up:
        return _broken(f"{counted(given_up, 'message was', 'messages were')} given up; `tieout alerts` says why.")
    oldest = min((alert.created_at for alert in pending), default=now)
    if (now - oldest).total_seconds() > OLDEST_SECONDS_MAX:
        return _broken(f"A message has waited since {oldest:%Y-%m-%d %H:%M:%S} UTC; `tieout alerts` says why.")
    if beat.delivered_at is None:
        return _broken("No target has ever taken a message; try `tieout alerts --test`.")
    if (now - beat.delivered_at).total_seconds() > DELIVERY_SECONDS_MAX:
        return _broken(f"No target has taken a message since {beat.delivered_at:%Y-%m-%d %H:%M:%S} UTC.")
    return PathState(is_alive=True, is_broken=False, reason=f"Last delivery {beat.delivered_at:%Y-%m-%d %H:%M:%S} UTC.")


def _broken(reason: str) -> PathState:
    return PathState(is_alive=False, is_broken=True, reason=reason)
