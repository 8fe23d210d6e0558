"""Which facts are in the report of which period: every one in exactly one, whatever arrives when."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from contracts.errors import InputError
from derived.reports import Span
from finance.periods import (
    Close,
    Period,
    brought_forward,
    first_open,
    late_parts,
    parse_period,
    parts_of,
    period_of,
    unclosed_before,
)

DECEMBER, JANUARY, FEBRUARY = Period(2010, 12), Period(2011, 1), Period(2011, 2)
CLOSES = (Close(period=DECEMBER, cuts={"pod1": 5, "pod2": 3}), Close(period=JANUARY, cuts={"pod1": 9, "pod2": 3}))


def is_in(span: Span, fact: tuple[str, int, date], cuts: dict[str, int]) -> bool:
    """Return what the macro `is_booked` says of a fact (pod, cut, day)."""
    pod, cut, day = fact
    return (
        cut <= cuts[pod]
        and (span.since is None or cut > span.since.get(pod, 0))
        and (span.first_day is None or day >= span.first_day)
        and (span.last_day is None or day <= span.last_day)
    )


def test_a_period_is_a_month_in_utc() -> None:
    assert parse_period("2010-12") == DECEMBER and str(DECEMBER) == "2010-12"
    assert (DECEMBER.first_day, DECEMBER.last_day) == (date(2010, 12, 1), date(2010, 12, 31))
    assert DECEMBER.ends_at == datetime(2011, 1, 1, tzinfo=UTC)
    assert DECEMBER.following == JANUARY and period_of(date(2011, 1, 31)) == JANUARY
    assert Period(2012, 2).last_day == date(2012, 2, 29)


@pytest.mark.parametrize("text", ["2010-13", "2010-00", "201012", "2010-1", "December", "", "2010-12-01", "0000-01"])
def test_what_is_no_period_is_said(text: str) -> None:
    with pytest.raises(InputError, match="write a month as 2010-12"):
        parse_period(text)


def test_every_fact_is_in_exactly_one_period(rng: random.Random) -> None:
    cuts = {"pod1": 14, "pod2": 8}
    facts = [
        (pod, rng.randint(1, cuts[pod]), date(2010, 12, 1) + timedelta(days=rng.randrange(120)))
        for pod in rng.choices(["pod1", "pod2"], k=500)
    ]
    # A month before the first close has nothing, or it could not have been closed; what comes later for it is late.
    facts += [("pod1", 6, date(2010, 3, 1)), ("pod2", 4, date(2010, 11, 30))]
    period, last, found = DECEMBER, Period(2011, 4), {fact: [] for fact in facts}  # type: ignore[var-annotated]
    while period <= last:
        standing = next((dict(close.cuts) for close in CLOSES if close.period == period), cuts)
        for part in parts_of(period, CLOSES):
            for fact in found:
                if is_in(part.span, fact, standing):
                    found[fact].append((period, part.late_for))
        period = period.following
    assert {fact: places for fact, places in found.items() if len(places) != 1} == {}
    assert found["pod1", 6, date(2010, 3, 1)] == [(JANUARY, DECEMBER)]
    assert found["pod2", 4, date(2010, 11, 30)] == [(FEBRUARY, DECEMBER)]


def test_late_arrivals_are_posted_in_the_first_open_period_only() -> None:
    assert first_open(CLOSES) == FEBRUARY and first_open(()) is None
    assert [part.late_for for part in parts_of(FEBRUARY, CLOSES)] == [None, DECEMBER, JANUARY]
    assert [part.late_for for part in parts_of(FEBRUARY.following, CLOSES)] == [None]
    assert [part.late_for for part in parts_of(JANUARY, CLOSES)] == [None, DECEMBER]
    assert [part.late_for for part in parts_of(DECEMBER, CLOSES)] == [None]
    assert {str(part.span.since) for part in late_parts(CLOSES)} == {str(CLOSES[-1].cuts)}


def test_balances_begin_with_what_was_closed() -> None:
    assert brought_forward(FEBRUARY, CLOSES).span == Span(last_day=date(2011, 1, 31))
    assert brought_forward(FEBRUARY, CLOSES).cuts == CLOSES[1].cuts
    assert brought_forward(JANUARY, CLOSES).cuts == CLOSES[0].cuts
    # Later open periods stand on what is known now; so does the first period of all.
    assert brought_forward(FEBRUARY.following, CLOSES) == brought_forward(FEBRUARY.following, ())
    assert brought_forward(DECEMBER, CLOSES).span == Span(last_day=date(2010, 11, 30))
    assert brought_forward(DECEMBER, CLOSES).cuts is None


def test_a_later_close_changes_no_earlier_period() -> None:
    later = (*CLOSES, Close(period=FEBRUARY, cuts={"pod1": 20, "pod2": 20}))
    for close in CLOSES:
        assert parts_of(close.period, later) == parts_of(close.period, CLOSES)


def test_months_that_were_closed_with_a_later_one_have_no_report() -> None:
    closes = (CLOSES[0], Close(period=FEBRUARY, cuts={"pod1": 9, "pod2": 9}))
    with pytest.raises(InputError, match="2011-01 had no entries and was closed with 2011-02"):
        parts_of(JANUARY, closes)
    assert unclosed_before(FEBRUARY, CLOSES[:1]) == Span(first_day=date(2011, 1, 1), last_day=date(2011, 1, 31))
