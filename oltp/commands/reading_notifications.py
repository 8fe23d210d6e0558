"""What a notification of the payment provider names: its payment, its amount, its reason; and how differences are said.

Belongs here: reading a notification against what is recorded. Does not belong here: recording what it says
(`apply_notification.py`, `apply_later_money.py`).
"""

from __future__ import annotations

from contracts.events.payment import PaymentState
from contracts.limits import NOTE
from contracts.text import counted, visible
from oltp.domain.notifications import Notification
from oltp.store.rows import load_by
from oltp.transaction import CommandTransaction


def payment_of(tx: CommandTransaction, notification: Notification) -> PaymentState | None:
    """Return the payment with the notification's authorization; of the provider, not of a gift card."""
    reference = notification.authorization_reference
    if not reference:
        return None
    found = load_by(tx, PaymentState, notification.merchant_id, "provider_reference", reference, lock=False)
    return next((payment for payment in found if payment.gift_card_id is None), None)


def amount_of(notification: Notification) -> int:
    """Return the amount in minor units; 0 when it names none."""
    return notification.amount_minor or 0


def reason_of(notification: Notification) -> str:
    """Return why it happened, in the provider's words."""
    return visible(notification.reason)[: NOTE.longest] or "The payment provider gives no reason."


def in_words(amount_minor: int, currency: str | None) -> str:
    """Return an amount in words, whatever its currency."""
    amount = counted(amount_minor, "minor unit")
    return f"{amount} of {visible(currency or 'no currency')[:10]}"


def other_amount(notification: Notification, payment: PaymentState, recorded_minor: int) -> str:
    """Return the sentence that two amounts are not equal: the recorded one, and that of the notification."""
    recorded = in_words(recorded_minor, payment.currency)
    says = in_words(amount_of(notification), notification.currency)
    return f"Payment {payment.payment_id}: {recorded} are recorded, and the provider says {says}."


def contradiction(
    notification: Notification, payment: PaymentState, amount_minor: int, fee_minor: int, *, says_all: bool
) -> str | None:
    """Return how amount, currency or fee of a notification contradict the recorded ones; None: they do not.

    `says_all` False: it need not say them, but no other ones.
    """
    said, recorded = (notification.amount_minor, notification.currency), (amount_minor, payment.currency)
    if any(one != known and (says_all or one is not None) for one, known in zip(said, recorded, strict=True)):
        return other_amount(notification, payment, amount_minor)
    if notification.fee_minor != fee_minor and (says_all or notification.fee_minor):
        fee, says = (in_words(one, payment.currency) for one in (fee_minor, notification.fee_minor))
        return f"Payment {payment.payment_id}: a fee of {fee} is recorded, and the provider says {says}."
    return None
