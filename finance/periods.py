"""Accounting periods: calendar months, and which facts belong to which period's report.

The rule: closing a period fixes a last day and a cut vector. They define the set of *known* facts (journal entries, tax
movements, placed orders): business day up to the last day, cut up to the vector. From close to close the last day and
the vector only grow, so each set contains the earlier one, and a period's report is the difference of two consecutive
sets. Therefore every fact is in exactly one period, and a closed period never changes: docs/finance.md.

Belongs here: that rule, without I/O. Does not belong here: reading the facts (`finance/reading.py`).
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from contracts.errors import InputError
from derived.reports import Span

ONE_DAY = timedelta(days=1)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, order=True)
class Period:
    """A calendar month, UTC."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def words(self) -> str:
        """The month in words, e.g. December 2010."""
        return f"{MONTHS[self.month - 1]} {self.year}"

    @property
    def first_day(self) -> date:
        """The first day of the month."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """The last day of the month."""
        return date(self.year, self.month, monthrange(self.year, self.month)[1])

    @property
    def ends_at(self) -> datetime:
        """The end of the month: the beginning of the next month, UTC."""
        if self.last_day == date.max:
            return datetime.max.replace(tzinfo=UTC)
        return datetime.combine(self.last_day + ONE_DAY, time(), tzinfo=UTC)

    @property
    def following(self) -> Period:
        """The next month."""
        return Period(self.year + self.month // 12, self.month % 12 + 1)


def parse_period(text: str) -> Period:
    """Return the period of a text such as ``2010-12``; InputError for any other form."""
    if not re.fullmatch(r"[1-9]\d{3}-(0[1-9]|1[0-2])", text):
        raise InputError(f"{text!r} is no period; write a month as 2010-12.")
    return Period(int(text[:4]), int(text[5:]))


def period_of(day: date) -> Period:
    """Return the month of a day."""
    return Period(day.year, day.month)


@dataclass(frozen=True, kw_only=True)
class Close:
    """What closing a period fixed."""

    period: Period
    cuts: Mapping[str, int]
    """Pod -> the last cut whose events count."""


class Posting(StrEnum):
    """Why a line is in a period's report."""

    BROUGHT_FORWARD = "brought forward"
    """Balances at the end of the previous period; only reports of balances have these."""
    IN_PERIOD = "in period"
    """Facts of the period's own days."""
    LATE_ARRIVAL = "late arrival"
    """Facts of a closed period's days that came after it was closed."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a period's report: the facts of one posting."""

    posting: Posting = Posting.IN_PERIOD
    late_for: Period | None = None
    """The closed period to whose days a late arrival belongs."""
    span: Span
    cuts: Mapping[str, int] | None = None
    """The cuts at which this part is read; None: the report's cuts."""


def first_open(closes: Sequence[Close]) -> Period | None:
    """Return the period after the last closed one; late arrivals are posted in it. None before the first close."""
    return closes[-1].period.following if closes else None


def parts_of(period: Period, closes: Sequence[Close]) -> tuple[Part, ...]:
    """Return the parts of the report of `period`; `closes` are all closes, in order.

    Raises InputError for a month that was closed together with a later one.
    """
    earlier = [close for close in closes if close.period < period]
    is_closed = any(close.period == period for close in closes)
    if not is_closed and len(earlier) < len(closes):
        covering = closes[len(earlier)].period
        raise InputError(f"{period} had no entries and was closed with {covering}; see the report of {covering}.")
    own = Part(span=Span(first_day=period.first_day, last_day=period.last_day))
    return (own, *late_parts(earlier)) if is_closed or period == first_open(closes) else (own,)


def late_parts(closes: Sequence[Close]) -> tuple[Part, ...]:
    """Return one part per closed period: facts of its days that came after the last of `closes`.

    A close also covers the months without entries between it and the previous close; the first covers all earlier days.
    """
    parts = []
    first_day: date | None = None
    for close in closes:
        span = Span(since=closes[-1].cuts, first_day=first_day, last_day=close.period.last_day)
        parts.append(Part(posting=Posting.LATE_ARRIVAL, late_for=close.period, span=span))
        first_day = close.period.last_day + ONE_DAY
    return tuple(parts)


def brought_forward(period: Period, closes: Sequence[Close]) -> Part:
    """Return the opening balances of a period: with the other parts they add up to its closing balances.

    After a close these are exactly the closed balances. Otherwise they are all facts of earlier days, including late
    arrivals.
    """
    earlier = [close for close in closes if close.period < period]
    is_settled = len(earlier) < len(closes) or period == first_open(closes)
    if earlier and is_settled:
        span = Span(last_day=earlier[-1].period.last_day)
        return Part(posting=Posting.BROUGHT_FORWARD, span=span, cuts=earlier[-1].cuts)
    return Part(posting=Posting.BROUGHT_FORWARD, span=Span(last_day=period.first_day - ONE_DAY))


def unclosed_before(period: Period, closes: Sequence[Close]) -> Span:
    """Return the days before `period` that no close covers; all of `closes` are before it."""
    after = closes[-1].period.last_day + ONE_DAY if closes else None
    return Span(first_day=after, last_day=period.first_day - ONE_DAY)
