"""Alerts about limits that are nearly reached: people are alerted once, and once more when use is low again.

Limits of memory, disk and queues are settings or belong to a server. When a limit is reached, work stops. So people are
alerted before, at a share of the limit that leaves time to act.

Belongs here: when these alerts are due, and their texts; pure. Does not belong here: measuring
(`stack/looking/headroom.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from repair.alerts.deciding import AlertKind
from repair.alerts.queue import Message

NEAR_SHARE = 0.8
"""Share of a limit from which on people are alerted."""
ROOM_SHARE = 0.7
"""Share below which the alert is over. Between the two shares there is no message, so that alerts do not alternate."""


@dataclass(frozen=True, kw_only=True)
class LimitUse:
    """How much of a limit is used."""

    name: str
    used: float
    limit: float
    advice: str
    """What a person can do, with the name of the setting if there is one."""
    unit: str = "MB"
    """Unit of `used` and `limit`; an MB is 10**6 bytes."""
    enough_left: float = math.inf
    """If at least this much is left, there is no alert, because a fifth of a large disk is much space."""

    @property
    def share(self) -> float:
        """The used part of the limit."""
        return self.used / self.limit if self.limit else 0.0

    @property
    def is_near(self) -> bool:
        """Whether people must be alerted."""
        return self.share >= NEAR_SHARE and self._left < self.enough_left

    @property
    def is_roomy(self) -> bool:
        """Whether the use is low enough to end the alert."""
        return self.share < ROOM_SHARE or self._left >= self.enough_left / NEAR_SHARE

    @property
    def _left(self) -> float:
        return self.limit - self.used

    @property
    def sentence(self) -> str:
        """The use as a sentence."""
        return f"{self.name}: {self.used:,.0f} of {self.limit:,.0f} {self.unit} ({self.share:.0%}). {self.advice}"


def near_message(uses: Iterable[LimitUse], told_at: datetime | None, over_at: datetime | None) -> Message | None:
    """Return the message that is due now, if any.

    `told_at` and `over_at`: when people were last told that a limit is near, and that use is low again.
    """
    measured = list(uses)
    near = [use for use in measured if use.is_near]
    is_told = told_at is not None and (over_at is None or over_at < told_at)
    if near and not is_told:
        # Two senders at the same time use the same subject, so only one message is written.
        return _near(near, subject=f"after {over_at.isoformat() if over_at else 'the beginning'}")
    if is_told and told_at is not None and measured and all(use.is_roomy for use in measured):
        return _room(told_at)
    return None


def _near(near: Sequence[LimitUse], *, subject: str) -> Message:
    others = f" and {len(near) - 1:,} more" if len(near) > 1 else ""
    lines = [
        f"From {NEAR_SHARE:.0%} of a limit on people are told:",
        "",
        *(f"- {use.sentence}" for use in near),
        "",
        "Nothing has stopped yet, and nothing is lost when it does. A message says when there is room again.",
        "Look: tieout status.",
        "Runbook: docs/runbooks/limits.md",
    ]
    title = f"[Tieout] Near its limit: {near[0].name}{others}"
    return Message(kind=AlertKind.NEAR_LIMIT, title=title, body="\n".join(lines), subject=subject)


def _room(told_at: datetime) -> Message:
    body = f"No limit is near any longer. People were told {told_at:%Y-%m-%d %H:%M} UTC."
    title = "[Tieout] Room again below every limit"
    return Message(kind=AlertKind.ROOM_AGAIN, title=title, body=body, subject=f"after {told_at.isoformat()}")
