"""Payments of an order from a file by gift card: the card is issued over what it pays, and spent; pure.

A file tells of no card but what it paid of an order. So each payment issues a card of its own, at its own time: sold,
for money that was received under the card's reference, or given away. Belongs here: those two steps, and which payments
by gift card cannot be. Does not belong here: payments through a provider (`life.py`).
"""

from __future__ import annotations

from datetime import datetime

from contracts.events.gift_card import GiftCardFunding
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.domain.gift_cards import authorized_by_card, capture_by_card, issue_gift_card
from oltp.domain.payments import capture_payment, open_to_authorize_minor
from traffic.orders.format import Payment
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import SOURCE, gift_card_id, payment_id
from traffic.orders.rehearsed_orders import Standing


def check_card_payment(payment: Payment, authorized_minor: int, captured_minor: int) -> None:
    """Raise RejectedError for a payment by gift card that is not taken from it whole and at once."""
    if payment.is_declined or payment.released_at is not None or authorized_minor != captured_minor:
        raise RejectedError(
            "gift_card_is_taken_at_once",
            f"payment {payment.reference}: a gift card is neither declined nor released, and all that is authorized is "
            "captured",
        )


def pay_by_card(standing: Standing, place: int, payment: Payment, amount_minor: int, at: datetime) -> None:
    """Apply a payment by gift card; RejectedError when it is more than the order has open."""
    record, order = standing.record, standing.order
    open_minor = open_to_authorize_minor(order, list(standing.payments.values()))
    # What a provider was paid above the order stays the customer's; what a card would pay above it stays on the card.
    if amount_minor > open_minor or not record.lines:
        raise RejectedError(
            "gift_card_above_order",
            f"payment {payment.reference}: {standing.shown(amount_minor)} was taken from the gift card, "
            f"{standing.shown(max(open_minor, 0) if record.lines else 0)} is open",
        )
    issue = IssueGiftCard(
        merchant_id=record.merchant_id,
        funding=GiftCardFunding.GRANTED if payment.is_gift_card_granted else GiftCardFunding.SOLD,
        amount_minor=amount_minor,
        source=SOURCE,
        external_reference=payment.gift_card,
        gift_card_id=gift_card_id(record, payment.reference),
    )
    card = issue_gift_card(
        merchant_id=record.merchant_id,
        gift_card_id=gift_card_id(record, payment.reference),
        currency=record.currency,
        funding=issue.funding,
        amount_minor=amount_minor,
        external_reference=issue.external_reference,
        reason=issue.reason,
        source=SOURCE,
        issued_at=at,
        expires_at=None,
    )
    own_id = payment_id(record, payment.reference)
    authorized = authorized_by_card(card, order, payment_id=own_id, amount_minor=amount_minor, authorized_at=at)
    standing.payments[payment.reference] = capture_payment(authorized, capture_by_card(authorized, str(place)))
    standing.do(f"card/{place}", issue, at)
    redeem = RedeemGiftCard(
        merchant_id=record.merchant_id,
        order_id=order.order_id,
        gift_card_id=card.gift_card_id,
        amount_minor=amount_minor,
        payment_id=own_id,
    )
    standing.do(f"redeem/{place}", redeem, at)
