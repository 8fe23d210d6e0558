"""What happens to a gift card: issued, spent on an order, paid a refund onto, expired.

Belongs here: functions from a card's state to its next one, and the limits of each. Does not belong here: the payment
or the refund that goes with it (`payments.py`, `refunds.py`).

The balance moves by whole steps, under the lock of the card's row: it never falls below 0, and never rises above what
was issued and given back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, InputError, InsufficientBalanceError
from contracts.events.gift_card import GiftCardFunding, GiftCardState, GiftCardStatus
from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentState
from contracts.limits import AMOUNT_MINOR_MAX
from contracts.money import format_minor
from oltp.domain.payments import amount_to_authorize, authorize_payment
from oltp.domain.transitions import GIFT_CARD_TRANSITIONS, require_transition

PROVIDER = "gift_card"
"""What stands as the provider of a payment by gift card; the card's id is its reference."""


def issue_gift_card(
    *,
    merchant_id: str,
    gift_card_id: str,
    currency: str,
    funding: GiftCardFunding,
    amount_minor: int,
    external_reference: str | None,
    reason: str,
    source: str,
    issued_at: datetime,
    expires_at: datetime | None,
) -> GiftCardState:
    """Return the new card at version 1; InputError for one without value, already over, or sold without a reference."""
    if amount_minor < 1:
        raise InputError("A gift card is issued with an amount above 0.")
    if expires_at is not None and expires_at <= issued_at:
        raise InputError("A gift card cannot expire before it is issued.")
    if funding is GiftCardFunding.SOLD and external_reference is None:
        raise InputError("A gift card that is sold names what the money for it was received under.")
    return GiftCardState(
        merchant_id=merchant_id,
        version=1,
        gift_card_id=gift_card_id,
        currency=currency,
        status=GiftCardStatus.ACTIVE,
        funding=funding,
        external_reference=external_reference,
        reason=reason,
        source=source,
        issued_minor=amount_minor,
        credited_minor=0,
        redeemed_minor=0,
        expired_minor=0,
        balance_minor=amount_minor,
        issued_at=issued_at,
        expires_at=expires_at,
        expired_at=None,
    )


def require_usable(card: GiftCardState, currency: str, at: datetime) -> None:
    """Raise ConflictError unless the card is active, its time is not over, and it is in the currency."""
    name = f"Gift card {card.gift_card_id}"
    if card.status is not GiftCardStatus.ACTIVE or (card.expires_at is not None and card.expires_at <= at):
        raise ConflictError(f"{name} has expired.")
    if card.currency != currency:
        raise ConflictError(f"{name} is in {card.currency}, not in {currency}.")


def amount_to_redeem(
    card: GiftCardState,
    order: OrderState,
    payments: Sequence[PaymentState],
    amount_minor: int | None,
    in_flight_minor: int = 0,
) -> int:
    """Return what is taken from the card for an order: as asked for, or as much as the order owes and the card holds.

    `in_flight_minor`: what the provider is being asked to authorize for the order. Raises ConflictError when the order
    has nothing, or less, open to pay, InsufficientBalanceError when the card holds nothing, or less than asked for.
    """
    asked_minor = amount_to_authorize(order, payments, amount_minor, in_flight_minor)
    if card.balance_minor < 1 or (amount_minor is not None and amount_minor > card.balance_minor):
        raise InsufficientBalanceError(
            f"Gift card {card.gift_card_id} holds {format_minor(card.balance_minor, card.currency)}, "
            f"{format_minor(asked_minor, card.currency)} asked for."
        )
    return min(asked_minor, card.balance_minor)


def authorized_by_card(
    card: GiftCardState, order: OrderState, *, payment_id: str, amount_minor: int, authorized_at: datetime
) -> PaymentState:
    """Return the payment by the card at version 1; it is captured at once."""
    payment = authorize_payment(
        order,
        payment_id=payment_id,
        amount_minor=amount_minor,
        provider=PROVIDER,
        provider_reference=card.gift_card_id,
        authorized_at=authorized_at,
    )
    return msgspec.structs.replace(payment, gift_card_id=card.gift_card_id)


def capture_by_card(payment: PaymentState, payment_capture_id: str) -> PaymentCapture:
    """Return the capture of all that a payment by gift card has set aside."""
    return PaymentCapture(
        payment_capture_id=payment_capture_id,
        amount_minor=payment.authorized_minor,
        provider_reference=payment.provider_reference,
        captured_at=payment.authorized_at,
    )


def redeem(card: GiftCardState, amount_minor: int) -> GiftCardState:
    """Return the card after a payment by it; InsufficientBalanceError below 0."""
    require_transition(GIFT_CARD_TRANSITIONS, card.status, GiftCardStatus.ACTIVE, f"Gift card {card.gift_card_id}")
    if not 1 <= amount_minor <= card.balance_minor:
        raise InsufficientBalanceError(
            f"Gift card {card.gift_card_id} holds {format_minor(card.balance_minor, card.currency)}, "
            f"{format_minor(amount_minor, card.currency)} would be taken."
        )
    return _moved(card, redeemed_minor=card.redeemed_minor + amount_minor)


def credit(card: GiftCardState, amount_minor: int) -> GiftCardState:
    """Return the card after a refund was paid onto it; ConflictError when it would hold more than any amount may be."""
    require_transition(GIFT_CARD_TRANSITIONS, card.status, GiftCardStatus.ACTIVE, f"Gift card {card.gift_card_id}")
    if amount_minor < 0 or card.issued_minor + card.credited_minor + amount_minor > AMOUNT_MINOR_MAX:
        raise ConflictError(f"Gift card {card.gift_card_id} cannot take {format_minor(amount_minor, card.currency)}.")
    return _moved(card, credited_minor=card.credited_minor + amount_minor)


def expire(card: GiftCardState, at: datetime) -> GiftCardState:
    """Return the card ended, with nothing left on it; ConflictError before its time."""
    require_transition(GIFT_CARD_TRANSITIONS, card.status, GiftCardStatus.EXPIRED, f"Gift card {card.gift_card_id}")
    if card.expires_at is None or card.expires_at > at:
        raise ConflictError(f"Gift card {card.gift_card_id} is not over yet.")
    ended = msgspec.structs.replace(card, status=GiftCardStatus.EXPIRED, expired_at=at)
    return _moved(ended, expired_minor=card.balance_minor)


def _moved(card: GiftCardState, **sums: int) -> GiftCardState:
    moved = msgspec.structs.replace(card, version=card.version + 1, **sums)
    balance_minor = moved.issued_minor + moved.credited_minor - moved.redeemed_minor - moved.expired_minor
    return msgspec.structs.replace(moved, balance_minor=balance_minor)
