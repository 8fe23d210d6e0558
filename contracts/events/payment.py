"""Events of a payment: one authorization at a provider, its captures and its refunds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value
from contracts.limits import AmountOrNoneMinor, Currency, CustomerId, Uuid


class PaymentEvent(StrEnum):
    """What can happen to a payment."""

    PAYMENT_AUTHORIZED = "payment_authorized"
    PAYMENT_DECLINED = "payment_declined"
    PAYMENT_CAPTURED = "payment_captured"
    PAYMENT_VOIDED = "payment_voided"
    PAYMENT_RELEASED = "payment_released"
    """The rest of the authorization was released, by us or by the provider; it cannot be captured any more."""
    PAYMENT_REFUNDED = "payment_refunded"
    """A refund of it was completed."""
    PAYMENT_RESTATED = "payment_restated"
    """The state is published again, because a write had bypassed the outbox."""


class PaymentStatus(StrEnum):
    """State of the authorization; captured and refunded amounts are fields of their own."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    """There is at least one capture; more may follow, up to the authorized amount less the released amount."""
    VOIDED = "voided"
    """Nothing was captured, and the whole authorization was released."""


class PaymentCapture(Value, frozen=True, kw_only=True):
    """One capture. Table payment_captures."""

    KEY: ClassVar[tuple[str, ...]] = ("payment_capture_id",)

    payment_capture_id: Uuid
    """The capture."""
    amount_minor: AmountOrNoneMinor
    """What was captured."""
    provider_reference: str
    """The provider's name for it."""
    captured_at: datetime
    """When it was captured."""


class PaymentState(AggregateState, frozen=True, kw_only=True):
    """A payment of an order; refunded_minor <= captured_minor <= authorized_minor - released_minor."""

    AGGREGATE_TYPE: ClassVar[str] = "payment"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("authorized_at",)

    payment_id: Uuid
    """The payment."""
    order_id: Uuid
    """The order."""
    customer_id: CustomerId | None
    """The customer, by the merchant's own id; None for a guest."""
    currency: Currency
    """Currency of every amount, an ISO 4217 code."""
    status: PaymentStatus
    """State of the authorization."""
    provider: str
    """The payment provider."""
    provider_reference: str
    """The provider's name for it."""
    authorized_minor: AmountOrNoneMinor
    """What was authorized."""
    captured_minor: AmountOrNoneMinor
    """Sum of the captures."""
    refunded_minor: AmountOrNoneMinor
    """Sum of completed refunds."""
    authorized_at: datetime
    """When it was authorized, or declined."""
    captures: list[PaymentCapture]
    """Ordered by (captured_at, payment_capture_id)."""
    released_minor: int = 0
    """The part of a captured payment's authorization that was released. A voided payment is released as a whole."""
    gift_card_id: Uuid | None = None
    """The gift card that paid it; None: the provider did."""
