"""Limits that are nearly reached: people are told once, and once more when there is room again.

Every limit of memory, disk and queues is a setting or belongs to a server; what reaches it stops work. So people hear
of it before, at a share of it that leaves time to act.

Belongs here: when that is told, and the texts; pure. Does not belong here: measuring (`stack/looking/headroom.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from repair.alerts.deciding import AlertKind
from repair.alerts.outbox import Message

NEAR_SHARE = 0.8
"""Of a limit: from here on it is told."""
ROOM_SHARE = 0.7
"""Below this there is room again; between the two nothing is told, so that nobody hears of it every minute."""


@dataclass(frozen=True, kw_only=True)
class LimitUse:
    """How much of a limit is used."""

    name: str
    used: float
    limit: float
    advice: str
    """What to do about it, with the setting's name if it is one."""
    unit: str = "MB"
    """Of both; an MB is 10**6 bytes."""
    enough_left: float = math.inf
    """With so much left nobody is told, whatever the share: a fifth of a large disk is a lot of room."""

    @property
    def share(self) -> float:
        """The used part of the limit."""
        return self.used / self.limit if self.limit else 0.0

    @property
    def is_near(self) -> bool:
        """Whether people are to know."""
        return self.share >= NEAR_SHARE and self._left < self.enough_left

    @property
    def is_roomy(self) -> bool:
        """Whether people are to know that it is over."""
        return self.share < ROOM_SHARE or self._left >= self.enough_left / NEAR_SHARE

    @property
    def _left(self) -> float:
        return self.limit - self.used

    @property
    def sentence(self) -> str:
        """The use in words."""
        return f"{self.name}: {self.used:,.0f} of {self.limit:,.0f} {self.unit} ({self.share:.0%}). {self.advice}"


def near_message(uses: Iterable[LimitUse], told_at: datetime | None, over_at: datetime | None) -> Message | None:
    """Return what people are to be told now, if anything.

    `told_at` and `over_at`: when they were last told that a limit is near, and that there is room again.
    """
    measured = list(uses)
    near = [use for use in measured if use.is_near]
    is_told = told_at is not None and (over_at is None or over_at < told_at)
    if near and not is_told:
        # Two senders at once give the same subject, so one message is written.
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
