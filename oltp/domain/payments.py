"""What happens to a payment: authorized, declined, captured, released, voided, refunded.

Belongs here: functions from a payment's state to its next state, and the limits of each. Does not belong here: the
provider (`oltp/gateway.py`), money that comes days later (`pending_payments.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, IllegalTransitionError, InputError, OverCaptureError, OverRefundError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentState, PaymentStatus
from contracts.money import format_minor
from oltp.domain.disputes import taken_back_minor
from oltp.domain.orders import owed_minor
from oltp.domain.transitions import PAYMENT_TRANSITIONS, require_transition

LIVE = (PaymentStatus.AUTHORIZED, PaymentStatus.PENDING, PaymentStatus.CAPTURED)
"""The states of payments that pay for their order, or may do so."""


def open_to_authorize_minor(order: OrderState, payments: Sequence[PaymentState]) -> int:
    """Return the amount of the order that no live payment covers; a captured one counts in full, but for what the bank
    took back.
    """
    return owed_minor(order) - sum(
        payment.authorized_minor - payment.released_minor - payment.returned_minor
        for payment in payments
        if payment.status in LIVE
    )


def amount_to_authorize(
    order: OrderState, payments: Sequence[PaymentState], amount_minor: int | None, in_flight_minor: int = 0
) -> int:
    """Return the amount to authorize: the requested amount or, if None, the whole open amount.

    `in_flight_minor`: the amount of other authorizations of the order that are under way. Raises ConflictError when no
    amount is open (a free order has no payment) or more than the open amount is requested.
    """
    open_minor = open_to_authorize_minor(order, payments) - in_flight_minor
    if amount_minor is not None and amount_minor < 1:
        raise InputError("The amount to authorize must be above 0.")
    if open_minor < 1:
        raise ConflictError(_nothing_open(order, payments))
    if amount_minor is not None and amount_minor > open_minor:
        raise ConflictError(
            f"Order {order.order_number}: {format_minor(amount_minor, order.currency)} asked for, "
            f"{format_minor(open_minor, order.currency)} open to pay."
        )
    return open_minor if amount_minor is None else amount_minor


def _nothing_open(order: OrderState, payments: Sequence[PaymentState]) -> str:
    """Return why nothing can be authorized: the order is paid for, or an authorization is not captured yet."""
    waiting = [payment for payment in payments if left_to_capture_minor(payment) > 0]
    captured_minor = sum(payment.captured_minor - payment.returned_minor for payment in payments)
    if not waiting or captured_minor >= owed_minor(order):
        return f"Order {order.order_number} has nothing open to pay; it needs no further payment."
    owed, captured, set_aside = (
        format_minor(amount_minor, order.currency)
        for amount_minor in (owed_minor(order), captured_minor, sum(map(left_to_capture_minor, waiting)))
    )
    return (
        f"Order {order.order_number} has nothing open to authorize: of {owed} owed, {captured} is captured and "
        f"{set_aside} set aside; capture or release payment {waiting[0].payment_id}."
    )


def left_to_capture_minor(payment: PaymentState) -> int:
    """Return the authorized amount that is neither captured nor released, or that is waited for."""
    if payment.status not in LIVE:
        return 0
    return payment.authorized_minor - payment.released_minor - payment.captured_minor


def authorize_payment(
    order: OrderState,
    *,
    payment_id: str,
    amount_minor: int,
    provider: str,
    provider_reference: str,
    authorized_at: datetime,
    is_declined: bool = False,
) -> PaymentState:
    """Return the new payment at version 1; a declined one is kept with an authorized amount of 0."""
    return PaymentState(
        merchant_id=order.merchant_id,
        version=1,
        payment_id=payment_id,
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        status=PaymentStatus.DECLINED if is_declined else PaymentStatus.AUTHORIZED,
        provider=provider,
        provider_reference=provider_reference,
        authorized_minor=0 if is_declined else amount_minor,
        captured_minor=0,
        refunded_minor=0,
        authorized_at=authorized_at,
        captures=[],
    )


def amount_to_capture(
    payment: PaymentState,
    order: OrderState,
    captured_of_order_minor: int,
    amount_minor: int | None,
    in_flight_minor: int = 0,
) -> int:
    """Return the amount to capture: the requested amount or, if None, as much as authorization and order still allow.

    `captured_of_order_minor` is the sum captured over all payments of the order. Raises OverCaptureError when the
    amount exceeds the authorization or what the order still owes after cancellations, or when nothing is left to
    capture.
    """
    _require_not_awaited(payment)
    require_transition(PAYMENT_TRANSITIONS, payment.status, PaymentStatus.CAPTURED, f"Payment {payment.payment_id}")
    if amount_minor is not None and amount_minor < 1:
        raise InputError("The amount to capture must be above 0.")
    authorized_left_minor = left_to_capture_minor(payment) - in_flight_minor
    owed_left_minor = owed_minor(order) - captured_of_order_minor
    left_minor = min(authorized_left_minor, owed_left_minor)
    if left_minor < 1 or (amount_minor is not None and amount_minor > left_minor):
        raise OverCaptureError(
            f"Payment {payment.payment_id}: {format_minor(max(left_minor, 0), payment.currency)} can still be captured "
            f"({format_minor(authorized_left_minor, payment.currency)} of the authorization, "
            f"{format_minor(max(owed_left_minor, 0), payment.currency)} of the order)."
        )
    return left_minor if amount_minor is None else amount_minor


def capture_payment(payment: PaymentState, capture: PaymentCapture) -> PaymentState:
    """Return the payment with one more capture, whose amount comes from `amount_to_capture`."""
    require_transition(PAYMENT_TRANSITIONS, payment.status, PaymentStatus.CAPTURED, f"Payment {payment.payment_id}")
    captures = sorted(
        [*payment.captures, capture], key=lambda capture: (capture.captured_at, capture.payment_capture_id)
    )
    return msgspec.structs.replace(
        payment,
        version=payment.version + 1,
        status=PaymentStatus.CAPTURED,
        captured_minor=payment.captured_minor + capture.amount_minor,
        captures=captures,
    )


def void_payment(payment: PaymentState) -> PaymentState:
    """Return the payment voided; IllegalTransitionError unless it is authorized or pending."""
    if payment.status is PaymentStatus.VOIDED:
        raise IllegalTransitionError(f"Payment {payment.payment_id} is voided already.")
    require_transition(PAYMENT_TRANSITIONS, payment.status, PaymentStatus.VOIDED, f"Payment {payment.payment_id}")
    return end_waiting(msgspec.structs.replace(payment, version=payment.version + 1, status=PaymentStatus.VOIDED))


def end_waiting(payment: PaymentState) -> PaymentState:
    """Return the state with its money not waited for any longer."""
    return payment if payment.expires_at is None else msgspec.structs.replace(payment, expires_at=None)


def release_payment(payment: PaymentState) -> PaymentState:
    """Return the payment with its uncaptured amount released: voided if nothing was captured.

    Raises ConflictError when all that was authorized is captured or released.
    """
    if payment.status is not PaymentStatus.CAPTURED:
        return void_payment(payment)
    left_minor = left_to_capture_minor(payment)
    if left_minor < 1:
        raise ConflictError(f"Payment {payment.payment_id} has nothing set aside that could be released.")
    return end_waiting(
        msgspec.structs.replace(
            payment, version=payment.version + 1, released_minor=payment.released_minor + left_minor
        )
    )


def _require_not_awaited(payment: PaymentState) -> None:
    """Raise ConflictError for a payment whose money comes by itself."""
    if payment.method is not None:
        raise ConflictError(
            f"Payment {payment.payment_id} is a {payment.method.replace('_', ' ')}: it is captured when money comes."
        )


def require_still_there(payment: PaymentState, amount_minor: int) -> None:
    """Raise OverRefundError when a refund would give back money that the bank took back, or that disputes have."""
    gone_minor = taken_back_minor(payment)
    left_minor = refund_payment(payment, amount_minor).captured_minor - gone_minor
    if payment.refunded_minor + amount_minor > left_minor:
        gone, asked = (format_minor(one, payment.currency) for one in (gone_minor, amount_minor))
        raise OverRefundError(
            f"Payment {payment.payment_id}: the bank disputes or took back {gone}; with {asked} refunded, the customer "
            "would have money twice."
        )


def refund_payment(payment: PaymentState, amount_minor: int) -> PaymentState:
    """Return the payment after a completed refund of `amount_minor`; OverRefundError above the captured amount."""
    require_transition(PAYMENT_TRANSITIONS, payment.status, PaymentStatus.CAPTURED, f"Payment {payment.payment_id}")
    refunded_minor = payment.refunded_minor + amount_minor
    if refunded_minor > payment.captured_minor:
        raise OverRefundError(
            f"Payment {payment.payment_id}: {format_minor(refunded_minor, payment.currency)} would be refunded, "
            f"{format_minor(payment.captured_minor, payment.currency)} was captured."
        )
    return msgspec.structs.replace(payment, version=payment.version + 1, refunded_minor=refunded_minor)


def take_back_refund(payment: PaymentState, amount_minor: int) -> PaymentState:
    """Return the payment after a completed refund of `amount_minor` has failed; it may be refunded again."""
    require_transition(PAYMENT_TRANSITIONS, payment.status, PaymentStatus.CAPTURED, f"Payment {payment.payment_id}")
    refunded_minor = payment.refunded_minor - amount_minor
    if refunded_minor < 0:
        raise ConflictError(
            f"Payment {payment.payment_id}: a refund of {format_minor(amount_minor, payment.currency)} failed, "
            f"{format_minor(payment.refunded_minor, payment.currency)} was refunded."
        )
    return msgspec.structs.replace(payment, version=payment.version + 1, refunded_minor=refunded_minor)
