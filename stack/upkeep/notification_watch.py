"""Watches the payment provider's notifications: people get an alert of those that wait too long or need a person.

Belongs here: one look, and which finding people must know. Does not belong here: what a notification changes
(`oltp/commands/apply_notification.py`), when people are told (`repair/alerts/outages.py`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psycopg

from contracts.settings import Settings
from repair.alerts.outages import About, Trouble
from stack.looking.waiting import NotificationsStatus, notifications_of


@dataclass(kw_only=True)
class NotificationWatch:
    """The newest look at the notifications of one stack. A pod that does not answer has a watch of its own."""

    settings: Settings
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once at every pod."""
        found: list[NotificationsStatus] = []
        for pod in self.settings.pods:
            with suppress(psycopg.Error):
                found += notifications_of(pod)
        self.troubles = tuple(_trouble(one) for one in found if one.alarm)


def _trouble(one: NotificationsStatus) -> Trouble:
    return Trouble(
        name=f"notifications of {one.pod}",
        sentence=one.alarm,
        when_down=("Selling, and every payment that the provider and the books agree on.",),
        look="tieout notifications list",
        runbook="docs/runbooks/notifications.md",
        about=About.WORKER,
        needs_person=bool(one.parked),
    )
