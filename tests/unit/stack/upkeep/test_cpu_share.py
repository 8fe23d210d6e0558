"""The share of a processor: earned over time, spent by rounds, borrowed by urgent ones within a bound."""

from __future__ import annotations

import pytest

from stack.upkeep.cpu_share import BORROWED_SECONDS_MAX, SAVED_SECONDS_MAX, CpuShare


def test_over_time_no_more_is_used_than_the_share() -> None:
    share, used, now = CpuShare(share=0.15, at=0.0), 0.0, 0.0
    while now < 3_600:
        now += 0.5
        share.earn(now)
        if share.may_begin():
            share.spend(7.0)
            used += 7.0
    assert used <= 3_600 * 0.15 + 7.0
    assert used >= 3_600 * 0.15 - 7.0


def test_after_a_rest_no_more_than_a_minute_is_saved() -> None:
    share = CpuShare(share=0.15, at=0.0)
    share.earn(100_000.0)
    assert share.credit == pytest.approx(0.15 * SAVED_SECONDS_MAX)


def test_urgent_work_borrows_and_a_flood_of_it_is_bounded() -> None:
    share, begun = CpuShare(share=0.15, at=0.0), 0
    assert share.may_begin()
    share.spend(1.0)
    assert not share.may_begin()
    while share.may_begin(is_urgent=True):
        share.spend(1.0)
        begun += 1
    assert begun == 90  # the debt may reach what ten minutes earn
    share.earn(BORROWED_SECONDS_MAX)
    assert share.may_begin(is_urgent=True)
    assert not share.may_begin()  # others wait until it is paid back


def test_a_loan_slows_other_work_and_never_stops_it() -> None:
    share, used, largest_pause, last, now = CpuShare(share=0.15, at=0.0), 0.0, 0.0, 0.0, 0.0
    while now < 7_200:
        now += 0.5
        share.earn(now)
        if share.may_borrow():
            share.lend(10.0, elsewhere=47.0)
            used += 57.0
        if share.may_begin():
            share.spend(7.0)
            used += 7.0
            largest_pause, last = max(largest_pause, now - last), now
    assert 7_200 * 0.15 - 64.0 <= used <= 7_200 * 0.15 + 64.0
    assert largest_pause <= 7.0 / (0.15 / 2) + 1.0  # the other half of the earnings, at the worst


def test_an_urgent_loan_is_bounded() -> None:
    share = CpuShare(share=0.15, at=0.0)
    share.lend(20.0, elsewhere=20.0)
    assert not share.may_borrow()
    assert share.may_borrow(is_urgent=True)
    share.lend(0.0, elsewhere=10.0)
    assert not share.may_borrow(is_urgent=True)
    assert share.may_begin()


def test_without_a_share_nothing_begins() -> None:
    share = CpuShare(share=0.0, at=0.0)
    share.earn(1_000.0)
    assert not share.may_begin()
    assert not share.may_begin(is_urgent=True)
