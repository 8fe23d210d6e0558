"""What happens to a payment whose money comes days later: waited for, received, failed, expired, returned.

Belongs here: functions from a payment's state to its next state, and the limits. Does not belong here: payments that a
card makes at once (`payments.py`), the order that waits with it (`oltp/commands/ending_orders.py`).

Nothing is captured before it is there. What comes is captured as far as it is waited for and the order owes it; the
rest is unallocated: it came too late, or it is too much. It is never dropped, and belongs to the customer until it is
given back. Each receipt has a name at the provider, and counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from contracts.errors import ConflictError, IllegalTransitionError, InputError
from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.events.order import OrderState
from contracts.events.payment import (
    MovementKind,
    PaymentCapture,
    PaymentEvent,
    PaymentMethod,
    PaymentMovement,
    PaymentState,
    PaymentStatus,
)
from contracts.limits import AMOUNT_MICRO_MAX
from contracts.money import format_minor, micro_per_minor
from oltp.domain.disputes import taken_back_minor
from oltp.domain.orders import owed_minor
from oltp.domain.payments import capture_payment, end_waiting, left_to_capture_minor, release_payment
from oltp.domain.transitions import PAYMENT_TRANSITIONS, require_transition

Step = tuple[PaymentState, PaymentEvent]
"""A payment's next state, and the event that says so. Each step adds one part to what finance books of it."""


class Receipt(Value, frozen=True, kw_only=True):
    """What is recorded of one receipt of money, in minor units."""

    captured_minor: int
    unallocated_minor: int
    """What of it nothing waited for."""
    returned_minor: int
    """What of the captured amount the bank took back."""
    given_back_minor: int
    """What of the unallocated amount went back."""
    fee_minor: int
    """What the provider keeps for the return."""

    @property
    def amount_minor(self) -> int:
        """What came."""
        return self.captured_minor + self.unallocated_minor


class LaterMoney(Value, frozen=True, kw_only=True):
    """What an order has of money that comes later, over all its payments."""

    is_awaited: bool
    captured_minor: int
    """What is captured, of payments of all kinds, less what banks took back."""
    returned_minor: int
    ships_before_paid: bool
    """What the merchant says."""


def waits_for_money(order_owes_minor: int, money: LaterMoney) -> bool:
    """Return whether the merchant does not ship an order yet: it is not paid, and money is waited for or went back."""
    if money.ships_before_paid or money.captured_minor >= order_owes_minor:
        return False
    return money.is_awaited or money.returned_minor > 0


def require_paid(order: OrderState, money: LaterMoney) -> None:
    """Raise ConflictError when the merchant does not ship the order yet."""
    if not waits_for_money(owed_minor(order), money):
        return
    if money.is_awaited:
        raise ConflictError(
            f"Order {order.order_number} waits for its payment; it is fulfilled when the money is there."
        )
    raise ConflictError(
        f"Order {order.order_number}: a bank took {format_minor(money.returned_minor, order.currency)} back; it is "
        "fulfilled when it is paid again."
    )


def wait_days(merchant: MerchantState, method: PaymentMethod) -> timedelta:
    """Return how long a merchant waits for money of this method."""
    days: Mapping[PaymentMethod, int] = {
        PaymentMethod.BANK_TRANSFER: merchant.bank_transfer_days,
        PaymentMethod.DIRECT_DEBIT: merchant.direct_debit_days,
    }
    return timedelta(days=days[method])


def waited_for_minor(payment: PaymentState) -> int:
    """Return the amount that is still waited for; 0 when nothing is."""
    return 0 if payment.expires_at is None else left_to_capture_minor(payment)


def pending_payment(
    order: OrderState,
    *,
    payment_id: str,
    method: PaymentMethod,
    amount_minor: int,
    provider: str,
    provider_reference: str,
    pay_to: str | None,
    asked_at: datetime,
    expires_at: datetime,
) -> PaymentState:
    """Return the new payment at version 1; its money is waited for."""
    return PaymentState(
        merchant_id=order.merchant_id,
        version=1,
        payment_id=payment_id,
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        status=PaymentStatus.PENDING,
        provider=provider,
        provider_reference=provider_reference,
        authorized_minor=amount_minor,
        captured_minor=0,
        refunded_minor=0,
        authorized_at=asked_at,
        captures=[],
        method=method,
        expires_at=expires_at,
        pay_to=pay_to,
    )


def require_awaited(payment: PaymentState) -> None:
    """Raise ConflictError for a payment whose money cannot come later: a card or a gift card made it."""
    if payment.method is None:
        raise ConflictError(f"Payment {payment.payment_id} is neither a bank transfer nor a direct debit.")


def receipt_named(payment: PaymentState, provider_reference: str) -> Receipt | None:
    """Return what is recorded of the receipt with this name; None: nothing is."""

    def total(kind: MovementKind) -> int:
        return sum(
            one.amount_minor
            for one in payment.movements
            if one.kind is kind and one.provider_reference == provider_reference
        )

    captured_minor = sum(one.amount_minor for one in payment.captures if one.provider_reference == provider_reference)
    unallocated_minor = total(MovementKind.UNALLOCATED)
    if not captured_minor and not unallocated_minor:
        return None
    return Receipt(
        captured_minor=captured_minor,
        unallocated_minor=unallocated_minor,
        returned_minor=total(MovementKind.RETURNED),
        given_back_minor=total(MovementKind.GIVEN_BACK),
        fee_minor=sum(one.fee_minor for one in payment.movements if one.provider_reference == provider_reference),
    )


def receive(
    payment: PaymentState, *, capture: PaymentCapture, movement_id: str, owed_left_minor: int, reason: str
) -> list[Step]:
    """Return the steps by which `capture.amount_minor` comes in: captured, unallocated, and the end of waiting.

    `owed_left_minor`: what the order owes beyond everything captured. ConflictError when the receipt is known.
    """
    require_awaited(payment)
    if (payment.unallocated_minor + capture.amount_minor) * micro_per_minor(payment.currency) > AMOUNT_MICRO_MAX:
        raise InputError(f"Payment {payment.payment_id}: no payment can have that much money.")
    if receipt_named(payment, capture.provider_reference) is not None:
        raise ConflictError(f"Payment {payment.payment_id} has the receipt {capture.provider_reference} already.")
    taken_minor = max(min(capture.amount_minor, waited_for_minor(payment), owed_left_minor), 0)
    steps: list[Step] = []
    if taken_minor:
        payment = capture_payment(payment, msgspec.structs.replace(capture, amount_minor=taken_minor))
        if not left_to_capture_minor(payment):
            payment = end_waiting(payment)
        steps.append((payment, PaymentEvent.PAYMENT_CAPTURED))
    if above_minor := capture.amount_minor - taken_minor:
        movement = PaymentMovement(
            payment_movement_id=movement_id,
            kind=MovementKind.UNALLOCATED,
            provider_reference=capture.provider_reference,
            amount_minor=above_minor,
            fee_minor=0,
            reason=reason,
            moved_at=capture.captured_at,
        )
        payment = _with(payment, movement)
        steps.append((payment, PaymentEvent.PAYMENT_UNALLOCATED))
    if taken_minor and taken_minor == owed_left_minor and waited_for_minor(payment):
        # A part of the order was cancelled meanwhile: nothing more is owed.
        steps.append((release_payment(payment), PaymentEvent.PAYMENT_RELEASED))
    return steps


def fail_payment(payment: PaymentState, failure_reason: str) -> PaymentState:
    """Return the payment failed; IllegalTransitionError unless it is pending."""
    if payment.status is not PaymentStatus.PENDING:
        raise IllegalTransitionError(f"Payment {payment.payment_id} is {payment.status}; it cannot become failed.")
    return end_waiting(
        msgspec.structs.replace(
            payment, version=payment.version + 1, status=PaymentStatus.FAILED, failure_reason=failure_reason
        )
    )


def expire_payment(payment: PaymentState) -> PaymentState:
    """Return the payment with its money not waited for any longer: voided, or captured as far as money came."""
    if payment.expires_at is None:
        raise ConflictError(f"Payment {payment.payment_id} waits for no money.")
    return release_payment(payment)


def return_receipt(
    payment: PaymentState,
    provider_reference: str,
    *,
    fee_minor: int,
    reason: str,
    movement_ids: tuple[str, str],
    moved_at: datetime,
) -> list[Step]:
    """Return the steps by which the bank takes a whole receipt back: what was captured, and what was unallocated.

    ConflictError when there is no such receipt, when it was taken or given back already, or when disputes have it.
    """
    receipt = _receipt(payment, provider_reference)
    if receipt.returned_minor or receipt.given_back_minor:
        raise ConflictError(f"Payment {payment.payment_id}: receipt {provider_reference} went back already.")
    if receipt.captured_minor > payment.captured_minor - taken_back_minor(payment):
        raise ConflictError(
            f"Payment {payment.payment_id}: {format_minor(receipt.captured_minor, payment.currency)} would be "
            "returned, and a dispute has a part of what was captured."
        )
    parts = (
        (MovementKind.RETURNED, PaymentEvent.PAYMENT_RETURNED, receipt.captured_minor),
        (MovementKind.GIVEN_BACK, PaymentEvent.PAYMENT_GIVEN_BACK, receipt.unallocated_minor),
    )
    steps: list[Step] = []
    for movement_id, (kind, event, amount_minor) in zip(movement_ids, parts, strict=True):
        if amount_minor:
            movement = PaymentMovement(
                payment_movement_id=movement_id,
                kind=kind,
                provider_reference=provider_reference,
                amount_minor=amount_minor,
                fee_minor=0 if steps else fee_minor,
                reason=reason,
                moved_at=moved_at,
            )
            payment = _with(payment, movement)
            steps.append((payment, event))
    return steps


def unallocated_of(payment: PaymentState, provider_reference: str) -> int:
    """Return what is unallocated of a receipt, in minor units; ConflictError when nothing of it is."""
    receipt = _receipt(payment, provider_reference)
    amount_minor = receipt.unallocated_minor - receipt.given_back_minor
    if amount_minor < 1:
        raise ConflictError(f"Payment {payment.payment_id}: nothing of receipt {provider_reference} is unallocated.")
    return amount_minor


def give_back(
    payment: PaymentState, provider_reference: str, *, reason: str, movement_id: str, moved_at: datetime
) -> PaymentState:
    """Return the payment after what is unallocated of a receipt went back; ConflictError when nothing of it is."""
    amount_minor = unallocated_of(payment, provider_reference)
    movement = PaymentMovement(
        payment_movement_id=movement_id,
        kind=MovementKind.GIVEN_BACK,
        provider_reference=provider_reference,
        amount_minor=amount_minor,
        fee_minor=0,
        reason=reason,
        moved_at=moved_at,
    )
    return _with(payment, movement)


def _receipt(payment: PaymentState, provider_reference: str) -> Receipt:
    require_awaited(payment)
    receipt = receipt_named(payment, provider_reference)
    if receipt is None:
        raise ConflictError(f"Payment {payment.payment_id} has no receipt {provider_reference}.")
    return receipt


def _with(payment: PaymentState, movement: PaymentMovement) -> PaymentState:
    """Return the payment with one more movement, which leaves its status as it is."""
    require_transition(PAYMENT_TRANSITIONS, payment.status, payment.status, f"Payment {payment.payment_id}")
    movements = [*payment.movements, movement]

    def total(kind: MovementKind) -> int:
        return sum(one.amount_minor for one in movements if one.kind is kind)

    return msgspec.structs.replace(
        payment,
        version=payment.version + 1,
        movements=sorted(movements, key=lambda one: (one.moved_at, one.payment_movement_id)),
        returned_minor=total(MovementKind.RETURNED),
        return_fee_minor=sum(one.fee_minor for one in movements),
        unallocated_minor=total(MovementKind.UNALLOCATED) - total(MovementKind.GIVEN_BACK),
    )
