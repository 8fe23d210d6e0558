"""What happens to a dispute about a payment: opened, and then won or lost.

Belongs here: functions from a payment's state to its next state, and the limits. Does not belong here: other money of a
payment (`payments.py`).

While a dispute is open the provider holds the money; it comes back if the dispute is won, and is the customer's if it
is lost. The fee is the provider's in each case. Disputed and lost money cannot be refunded as well: the customer would
have it twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, IllegalTransitionError, InputError
from contracts.events.payment import DisputeStatus, PaymentDispute, PaymentState
from contracts.money import format_minor

DISPUTE_TRANSITIONS: Mapping[DisputeStatus, frozenset[DisputeStatus]] = {
    DisputeStatus.OPENED: frozenset({DisputeStatus.WON, DisputeStatus.LOST}),
    DisputeStatus.WON: frozenset(),
    DisputeStatus.LOST: frozenset(),
}


def dispute_named(payment: PaymentState, provider_reference: str) -> PaymentDispute | None:
    """Return the payment's dispute with the provider's reference; None: there is none."""
    return next((one for one in payment.disputes if one.provider_reference == provider_reference), None)


def taken_back_minor(payment: PaymentState) -> int:
    """Return what is gone of the captured money, held or lost in disputes, or returned: it cannot be refunded."""
    return payment.disputed_minor + payment.charged_back_minor + payment.returned_minor


def open_dispute(payment: PaymentState, dispute: PaymentDispute) -> PaymentState:
    """Return the payment with one more open dispute; ConflictError above what was captured, or for a known one."""
    if payment.gift_card_id is not None:
        raise InputError(f"Payment {payment.payment_id} was made with a gift card; no bank disputes it.")
    if dispute_named(payment, dispute.provider_reference) is not None:
        raise ConflictError(f"Payment {payment.payment_id} has the dispute {dispute.provider_reference} already.")
    left_minor = payment.captured_minor - taken_back_minor(payment)
    if dispute.amount_minor > left_minor:
        raise ConflictError(
            f"Payment {payment.payment_id}: {format_minor(dispute.amount_minor, payment.currency)} is disputed, and "
            f"{format_minor(left_minor, payment.currency)} of what was captured is not disputed yet."
        )
    return _with(payment, [*payment.disputes, dispute])


def end_dispute(
    payment: PaymentState, provider_reference: str, status: DisputeStatus, ended_at: datetime
) -> PaymentState:
    """Return the payment with a dispute won or lost; IllegalTransitionError unless it is open."""
    dispute = dispute_named(payment, provider_reference)
    if dispute is None:
        raise ConflictError(f"Payment {payment.payment_id} has no dispute {provider_reference}.")
    if status not in DISPUTE_TRANSITIONS[dispute.status]:
        raise IllegalTransitionError(f"Dispute {provider_reference} is {dispute.status}; it cannot become {status}.")
    ended = msgspec.structs.replace(dispute, status=status, ended_at=ended_at)
    return _with(payment, [ended if one is dispute else one for one in payment.disputes])


def _with(payment: PaymentState, disputes: list[PaymentDispute]) -> PaymentState:
    def total(*statuses: DisputeStatus) -> int:
        return sum(one.amount_minor for one in disputes if one.status in statuses)

    return msgspec.structs.replace(
        payment,
        version=payment.version + 1,
        disputes=sorted(disputes, key=lambda one: (one.opened_at, one.payment_dispute_id)),
        disputed_minor=total(DisputeStatus.OPENED),
        charged_back_minor=total(DisputeStatus.LOST),
        dispute_fee_minor=sum(one.fee_minor for one in disputes),
    )
