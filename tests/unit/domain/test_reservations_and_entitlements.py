"""Reservations hold, give and end; entitlements derive from the best surviving grant."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConflictError, IllegalTransitionError, InputError
from contracts.events.entitlement import Grant
from contracts.events.stock import ReservationLine, ReservationState, ReservationStatus
from oltp.domain.adjustments import adjustment_amounts
from oltp.domain.entitlements import add_grant, effective_grant, revoke_grant
from oltp.domain.reservations import consume, held_by_variant, release, take_over
from tests.unit.domain.builders import NOW


def reservation(*quantities: int, order_id: str | None = None, minutes: int = 15) -> ReservationState:
    return ReservationState(
        merchant_id="m1",
        version=1,
        reservation_id="r1",
        order_id=order_id,
        status=ReservationStatus.HELD,
        expires_at=NOW + timedelta(minutes=minutes),
        lines=[
            ReservationLine(
                reservation_line_id=f"rl{index}",
                variant_id=f"v{index}",
                location_id="main",
                quantity=quantity,
                consumed_quantity=0,
                released_quantity=0,
            )
            for index, quantity in enumerate(quantities)
        ],
    )


def test_the_last_step_gives_the_end_state():
    held = release(reservation(3, 2), {"v0": 1})
    assert (held.status, held_by_variant(held)) == (ReservationStatus.HELD, {"v0": 2, "v1": 2})
    consumed = consume(held, {"v0": 2, "v1": 2})
    assert (consumed.status, held_by_variant(consumed), consumed.version) == (ReservationStatus.CONSUMED, {}, 3)
    assert release(reservation(1)).status is ReservationStatus.RELEASED
    assert release(reservation(1), None, ReservationStatus.EXPIRED).status is ReservationStatus.EXPIRED
    with pytest.raises(IllegalTransitionError):
        release(consumed)


def test_no_more_is_taken_than_is_held():
    with pytest.raises(ConflictError, match="fewer units"):
        consume(reservation(1, 1), {"v0": 2})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_units_are_held_consumed_or_released(quantities, data):
    state = reservation(*quantities)
    for step in (consume, release, consume):
        held = held_by_variant(state)
        if not held:
            break
        variant = data.draw(st.sampled_from(sorted(held)))
        state = step(state, {variant: data.draw(st.integers(1, held[variant]))})
    for line in state.lines:
        held_units = held_by_variant(state).get(line.variant_id, 0)
        assert line.quantity == line.consumed_quantity + line.released_quantity + held_units
    assert (state.status is ReservationStatus.HELD) == bool(held_by_variant(state))


def test_an_order_takes_a_live_reservation_of_exactly_its_units():
    taken = take_over(reservation(2), "o1", "main", {"v0": 2}, NOW)
    assert (taken.order_id, taken.expires_at, taken.version) == ("o1", None, 2)
    for state, location, needed in (
        (reservation(2), "main", {"v0": 1}),
        (reservation(2), "elsewhere", {"v0": 2}),
        (reservation(2, order_id="o2"), "main", {"v0": 2}),
        (reservation(2, minutes=0), "main", {"v0": 2}),
    ):
        with pytest.raises(ConflictError):
            take_over(state, "o1", location, needed, NOW)


def grant(grantor: str, level: int, *, minutes: int = 0, expires_minutes: int | None = None) -> Grant:
    return Grant(
        grant_id=f"g-{grantor}-{minutes}",
        grantor=grantor,
        level=level,
        granted_at=NOW + timedelta(minutes=minutes),
        expires_at=None if expires_minutes is None else NOW + timedelta(minutes=expires_minutes),
        revoked_at=None,
    )


def holder(grants: list[Grant]) -> str | None:
    best = effective_grant(grants, NOW + timedelta(minutes=10))
    return best.grantor if best else None


def test_the_best_surviving_grant_holds():
    grants = add_grant(add_grant([], grant("plan:pro", 2)), grant("order:1", 3, minutes=1))
    grants = add_grant(grants, grant("order:2", 3, minutes=2))
    assert holder(grants) == "order:1"
    grants = revoke_grant(grants, "order:1", NOW + timedelta(minutes=3))
    assert holder(grants) == "order:2"
    grants = revoke_grant(grants, "order:2", NOW + timedelta(minutes=4))
    assert holder(grants) == "plan:pro"
    assert holder(revoke_grant(grants, "plan:pro", NOW + timedelta(minutes=5))) is None


def test_an_expired_grant_masks_no_live_one():
    grants = [grant("trial", 3, expires_minutes=10), grant("plan:pro", 2)]
    assert holder(grants) == "plan:pro"
    assert holder([grant("trial", 3, expires_minutes=11), grant("plan:pro", 2)]) == "trial"
    assert holder([grant("trial", 3, expires_minutes=10)]) is None


def test_among_equals_the_grant_that_ends_last_holds():
    month, year = grant("month", 2, expires_minutes=30), grant("year", 2, minutes=1, expires_minutes=365)
    forever = grant("gift", 2, minutes=2)
    assert holder([month, year]) == "year"
    assert holder([month, year, forever]) == "gift"


def test_a_grantor_has_one_live_grant():
    grants = add_grant([], grant("plan:pro", 2, expires_minutes=5))
    with pytest.raises(ConflictError, match="already granted"):
        add_grant(grants, grant("plan:pro", 3, minutes=4))
    assert len(add_grant(grants, grant("plan:pro", 3, minutes=5))) == 2
    with pytest.raises(ConflictError, match="granted nothing"):
        revoke_grant(grants, "plan:other", NOW)
    with pytest.raises(InputError):
        add_grant([], grant("plan:pro", 0))
    with pytest.raises(InputError, match="expire"):
        add_grant([], grant("plan:pro", 1, expires_minutes=0))


@given(st.integers(-(10**15), 10**15).filter(bool))
def test_an_adjustment_is_exact(amount_micro):
    amount_minor, rounding_micro = adjustment_amounts(amount_micro, "GBP")
    assert amount_minor * 10_000 + rounding_micro == amount_micro


def test_an_adjustment_of_nothing_is_refused():
    with pytest.raises(InputError):
        adjustment_amounts(0, "GBP")
