"""Events of a gift card: value that a customer holds with a merchant, and spends as a payment of orders.

A card is one aggregate with a balance. What is spent from it is a payment of an order that names the card; what is
given back onto it is a refund that does. The card itself keeps their sums.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState
from contracts.limits import AmountMinor, AmountOrNoneMinor, Currency, Note, Reference, Source, Uuid


class GiftCardEvent(StrEnum):
    """What can happen to a gift card."""

    GIFT_CARD_ISSUED = "gift_card_issued"
    GIFT_CARD_REDEEMED = "gift_card_redeemed"
    """A payment of an order took from its balance."""
    GIFT_CARD_CREDITED = "gift_card_credited"
    """A refund was paid onto it."""
    GIFT_CARD_EXPIRED = "gift_card_expired"
    """Its time is over; what was left on it is the seller's."""
    GIFT_CARD_RESTATED = "gift_card_restated"
    """Stated again as it is, because a write had bypassed the outbox."""


class GiftCardStatus(StrEnum):
    """Whether it can be spent; a card with nothing on it is still active, a refund may be paid onto it."""

    ACTIVE = "active"
    EXPIRED = "expired"


class GiftCardFunding(StrEnum):
    """What stands behind the balance that it was issued with."""

    SOLD = "sold"
    """Money was received for it."""
    GRANTED = "granted"
    """It was given away: goodwill or a promotion, an expense."""


class GiftCardState(AggregateState, frozen=True, kw_only=True):
    """A gift card; balance_minor = issued_minor + credited_minor - redeemed_minor - expired_minor, at least 0."""

    AGGREGATE_TYPE: ClassVar[str] = "gift_card"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("issued_at", "expired_at")

    gift_card_id: Uuid
    """The card; the code that a customer types is the shop's to keep, and never in an event."""
    currency: Currency
    """Of every amount, an ISO 4217 code."""
    status: GiftCardStatus
    """Whether it can be spent."""
    funding: GiftCardFunding
    """What stands behind what it was issued with."""
    external_reference: Reference | None
    """What the money for it was received under; None: it was given away without one."""
    reason: Note
    """Why, in the words of whoever issued it."""
    source: Source
    """What made it, as of an order."""
    issued_minor: AmountMinor
    """What it was issued with."""
    credited_minor: AmountOrNoneMinor
    """Sum of the completed refunds onto it."""
    redeemed_minor: AmountOrNoneMinor
    """Sum of the payments by it."""
    expired_minor: AmountOrNoneMinor
    """What was left on it when it expired."""
    balance_minor: AmountOrNoneMinor
    """What can be spent."""
    issued_at: datetime
    """When it was issued."""
    expires_at: datetime | None
    """When it ends; None: never."""
    expired_at: datetime | None
    """When it was ended; None: it was not."""
