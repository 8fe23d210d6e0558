"""What a pod waits for, for `tieout status`: transactions that have been open for a long time, calls to the
payment provider, and its notifications.

Belongs here: the queries. Does not belong here: what is shown for a pod that does not answer
(`stack/looking/status.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.settings import PodSettings
from contracts.text import counted
from oltp.domain.notifications import WAITING_SECONDS_MAX


@dataclass(frozen=True, kw_only=True)
class OpenStatus:
    """A transaction that has been open in a pod for a long time. It delays its own events and blocks vacuum."""

    pod: str
    what: str
    whose: str
    seconds: float
    to_end_it: str


@dataclass(frozen=True, kw_only=True)
class CallsStatus:
    """Calls of a pod to the payment provider whose outcome is not recorded yet."""

    pod: str
    calls: int
    oldest_seconds: float


@dataclass(frozen=True, kw_only=True)
class NotificationsStatus:
    """Notifications of the payment provider in a pod that are not settled."""

    pod: str
    waiting: int
    oldest_seconds: float
    """Since when the oldest of these waits."""
    parked: int
    """These wait for a person."""

    @property
    def alarm(self) -> str:
        """What a person must look at, in a sentence without a full stop; empty when there is nothing."""
        look = "`tieout notifications list`"
        if self.parked:
            needing = counted(self.parked, "notification needs", "notifications need")
            return f"{needing} a person: what the payment provider did and {self.pod} did not record; {look}"
        if self.waiting and self.oldest_seconds > WAITING_SECONDS_MAX:
            waiting = counted(self.waiting, "notification waits", "notifications wait")
            return f"{waiting} in {self.pod}, the oldest for {self.oldest_seconds:,.0f} s; {look}"
        return ""


def open_in(pod: PodSettings) -> list[OpenStatus]:
    """Return the transactions that have been open in a pod for a long time, the oldest first."""
    from streams.holders import open_transactions

    return [OpenStatus(pod=pod.pod, **vars(found)) for found in open_transactions(pod.reader_dsn)]


def calls_of(pod: PodSettings) -> list[CallsStatus]:
    """Return one row about a pod's calls to the payment provider without an outcome for a minute or more, if any."""
    from oltp.settling import unsettled_calls

    calls, oldest_seconds = unsettled_calls(pod.reader_dsn)
    return [CallsStatus(pod=pod.pod, calls=calls, oldest_seconds=round(oldest_seconds, 3))] if calls else []


def notifications_of(pod: PodSettings) -> list[NotificationsStatus]:
    """Return one row about a pod's notifications that wait or are parked, if there are any."""
    from oltp.notifying import notification_counts

    waiting, oldest_seconds, parked = notification_counts(pod.reader_dsn)
    if not waiting and not parked:
        return []
    return [NotificationsStatus(pod=pod.pod, waiting=waiting, oldest_seconds=round(oldest_seconds, 3), parked=parked)]
