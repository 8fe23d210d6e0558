"""Dates of Online Retail files: each file has one order of day and month, declared or proven by the whole file.

Belongs here: the possible readings of a date, and the order that a file's dates prove. Does not belong here: opening
the file (`files.py`).

``02/12/2011`` is 2 December or 12 February. Only other dates of the same file can decide: ``13/12/2011`` is not a date
in the month-first order. A file whose dates prove no order, or two, is refused. A file that mixes year-first and
year-last dates is refused too: a spreadsheet writes such a column when it could read only some of the dates, with the
wrong order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from contracts.errors import InputError

YEAR_MIN = 1970

_FORM = re.compile(
    r"(?P<first>\d{1,4})(?P<mark>[-/.])(?P<second>\d{1,2})(?P=mark)(?P<third>\d{1,4})"
    r"(?:[ T](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<seconds>\d{2}))?)?",
    re.ASCII,
)
_YEAR_DIGITS = 4


class DateOrder(StrEnum):
    """The order of day, month and year in a date."""

    ISO = "iso"
    DAY_FIRST = "day-first"
    MONTH_FIRST = "month-first"


Readings = dict[DateOrder, datetime]


@lru_cache(maxsize=65_536)
def readings_of(text: str) -> Readings:
    """Return the time (UTC; midnight if missing) for every order in which the text is a date; {} if it is no date."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return {}
    first, second, third = found["first"], found["second"], found["third"]
    if len(first) == _YEAR_DIGITS and len(third) < _YEAR_DIGITS:
        candidates = {DateOrder.ISO: (first, second, third)}
    elif len(third) == _YEAR_DIGITS and len(first) < _YEAR_DIGITS:
        candidates = {DateOrder.DAY_FIRST: (third, second, first), DateOrder.MONTH_FIRST: (third, first, second)}
    else:
        return {}
    clock = [int(found[name] or 0) for name in ("hour", "minute", "seconds")]
    moments = {order: _moment([int(part) for part in date], clock) for order, date in candidates.items()}
    return {order: moment for order, moment in moments.items() if moment is not None}


@dataclass(kw_only=True)
class DateEvidence:
    """Evidence for the date order of one file. Call `see` for every date, then `order`."""

    path: str
    proofs: dict[DateOrder, str] = field(default_factory=dict)
    """By order: the first date that can be read only in this order."""
    doubtful: str = ""
    """The first date that is a different day in each order."""

    def see(self, text: str, line: int) -> None:
        """Record one date; a text that is not a date in any order is ignored."""
        readings = readings_of(text)
        if len(readings) == 1:
            (order,) = readings
            if order not in self.proofs:
                self.proofs[order] = _place(text, line)
        elif not self.doubtful and len(set(readings.values())) > 1:
            self.doubtful = _place(text, line)

    def order(self, declared: DateOrder | None) -> DateOrder:
        """Return the file's order; InputError when dates contradict it, or when no order is proven or declared."""
        proofs = dict(self.proofs)
        if DateOrder.ISO in proofs and len(proofs) == 1 and self.doubtful:
            raise InputError(
                f"File {self.path} mixes dates with the year first ({proofs[DateOrder.ISO]}) and with the year last "
                f"({self.doubtful}); write all of them in one form, best as 2011-12-31, and import it again."
            )
        if len(proofs) > 1:
            shown = " and ".join(f"{order} ({place})" for order, place in proofs.items())
            raise InputError(
                f"File {self.path} has dates in more than one order: {shown}; correct them and import it again."
            )
        if declared is not None:
            return self._confirmed(declared)
        if self.doubtful and not proofs:
            raise InputError(
                f"File {self.path} does not show whether its dates begin with the day or the month ({self.doubtful}, "
                "and no date in it tells): say it with --date-order day-first or --date-order month-first."
            )
        return next(iter(proofs), DateOrder.ISO)

    def _confirmed(self, declared: DateOrder) -> DateOrder:
        against = next((place for order, place in self.proofs.items() if order is not declared), "")
        if declared is DateOrder.ISO:
            against = against or self.doubtful
        if against:
            raise InputError(
                f"File {self.path} does not have its dates in the order {declared}: {against}; declare the order that "
                "it has, or none if the files of this import differ."
            )
        return declared


def _place(text: str, line: int) -> str:
    return f"line {line}: {text.strip()}"


def _moment(date: list[int], clock: list[int]) -> datetime | None:
    try:
        moment = datetime(*date, *clock, tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return moment if moment.year >= YEAR_MIN else None
