"""Which month can be closed next, and the obstacles. Only people close months; nothing here closes one.

Belongs here: that answer, for the digest and `tieout periods`. Does not belong here: the rules (`finance/closing.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.clock import Clock, utc_now
from contracts.errors import TieoutError
from contracts.settings import Settings
from derived.reports import standing_cuts
from finance.books import closed_periods
from finance.closing import obstacles
from finance.periods import Period, period_of
from finance.reading import reading, unclosed_months
from stack.composition.certificate_evidence import gather_proof


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The first month that has ended and is not closed."""

    period: Period | None = None
    """None when there is no such month, or when it is not known."""
    obstacles: tuple[str, ...] = ()
    unknown: str = ""
    """Why the month is not known; empty when it is."""

    def as_json(self) -> dict[str, Any]:
        """Return the answer as values that JSON can hold."""
        period = None if self.period is None else str(self.period)
        return {"period": period, "obstacles": list(self.obstacles), "unknown": self.unknown}

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if self.unknown:
            return f"Which month can be closed is not known: {self.unknown}"
        if self.period is None:
            return "Every month that has ended and has entries is closed."
        if not self.obstacles:
            return f"{self.period} has ended and can be closed: tieout close {self.period}"
        more = f" (and {len(self.obstacles) - 1:,} more)" if len(self.obstacles) > 1 else ""
        return f"{self.period} has ended and cannot be closed yet: {self.obstacles[0]}{more}."


def next_to_close(settings: Settings, *, clock: Clock = utc_now) -> Outlook:
    """Return which month is next. A read error is stored in `unknown`, because the digest must be sent all the same."""
    now = clock()
    try:
        closed = closed_periods(settings.control_dsn)
        with reading(settings) as lake:
            cuts = standing_cuts(lake, None)[1]
            months = unclosed_months(lake, period_of(now.date()), [one.close for one in closed], cuts)
            if not months:
                return Outlook()
            proof = gather_proof(settings, lake, months[0])
            return Outlook(period=months[0], obstacles=tuple(obstacles(lake, settings, months[0], closed, proof, now)))
    except TieoutError as error:
        return Outlook(unknown=str(error))
