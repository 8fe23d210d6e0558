"""The state machines: for every status, the statuses that one step may reach.

Belongs here: the tables and the check that a step is allowed. Does not belong here: what a step changes. The database
checks the same tables in its triggers; a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from contracts.errors import IllegalTransitionError
from contracts.events.gift_card import GiftCardStatus
from contracts.events.order import OrderStatus
from contracts.events.payment import PaymentStatus
from contracts.events.refund import RefundStatus
from contracts.events.stock import ReservationStatus

Status = TypeVar("Status", bound=StrEnum)
Transitions = Mapping[Status, frozenset[Status]]

ORDER_TRANSITIONS: Transitions[OrderStatus] = {
    OrderStatus.PLACED: frozenset(
        # Placed to placed: a part was cancelled and nothing has been shipped.
        {OrderStatus.PLACED, OrderStatus.PARTIALLY_FULFILLED, OrderStatus.FULFILLED, OrderStatus.CANCELLED}
    ),
    OrderStatus.PARTIALLY_FULFILLED: frozenset({OrderStatus.PARTIALLY_FULFILLED, OrderStatus.FULFILLED}),
    OrderStatus.FULFILLED: frozenset(),
    OrderStatus.CANCELLED: frozenset(),
}

PAYMENT_TRANSITIONS: Transitions[PaymentStatus] = {
    PaymentStatus.AUTHORIZED: frozenset({PaymentStatus.CAPTURED, PaymentStatus.VOIDED}),
    # Captured to captured: a further capture, or a refund.
    PaymentStatus.CAPTURED: frozenset({PaymentStatus.CAPTURED}),
    PaymentStatus.PENDING: frozenset(
        {PaymentStatus.PENDING, PaymentStatus.CAPTURED, PaymentStatus.VOIDED, PaymentStatus.FAILED}
    ),
    # These to themselves: money came all the same, or went back, and is unallocated.
    PaymentStatus.DECLINED: frozenset({PaymentStatus.DECLINED}),
    PaymentStatus.VOIDED: frozenset({PaymentStatus.VOIDED}),
    PaymentStatus.FAILED: frozenset({PaymentStatus.FAILED}),
}

REFUND_TRANSITIONS: Transitions[RefundStatus] = {
    RefundStatus.REQUESTED: frozenset({RefundStatus.COMPLETED, RefundStatus.FAILED}),
    # The money came back to the provider.
    RefundStatus.COMPLETED: frozenset({RefundStatus.FAILED}),
    RefundStatus.FAILED: frozenset(),
}

RESERVATION_TRANSITIONS: Transitions[ReservationStatus] = {
    # Held to held: an order took it over, or a part was consumed or released.
    ReservationStatus.HELD: frozenset(ReservationStatus),
    ReservationStatus.CONSUMED: frozenset(),
    ReservationStatus.RELEASED: frozenset(),
    ReservationStatus.EXPIRED: frozenset(),
}

GIFT_CARD_TRANSITIONS: Transitions[GiftCardStatus] = {
    # Active to active: it was spent from, or a refund was paid onto it.
    GiftCardStatus.ACTIVE: frozenset(GiftCardStatus),
    GiftCardStatus.EXPIRED: frozenset(),
}


def require_transition(table: Transitions[Status], before: Status, after: Status, what: str) -> None:
    """Raise IllegalTransitionError unless `table` allows the step; `what` names the aggregate in the message."""
    if after not in table[before]:
        raise IllegalTransitionError(f"{what} is {before}; it cannot become {after}.")
