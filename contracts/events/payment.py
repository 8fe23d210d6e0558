"""Events of a payment: one authorization at a provider, or money that is waited for, and what becomes of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import AmountMinor, AmountOrNoneMinor, Currency, CustomerId, Note, Reference, Uuid


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
    PAYMENT_REFUND_FAILED = "payment_refund_failed"
    """A completed refund of it failed: the money came back."""
    PAYMENT_DISPUTE_OPENED = "payment_dispute_opened"
    """The customer's bank asks the money back; the provider holds it, and keeps a fee."""
    PAYMENT_DISPUTE_WON = "payment_dispute_won"
    """The provider gave the held money back."""
    PAYMENT_DISPUTE_LOST = "payment_dispute_lost"
    """The customer has the money."""
    PAYMENT_PENDING = "payment_pending"
    """Its money is waited for: the customer is to transfer it, or a bank is to collect it."""
    PAYMENT_FAILED = "payment_failed"
    """The bank does not pay what was waited for."""
    PAYMENT_EXPIRED = "payment_expired"
    """Its money is not waited for any longer. What came before stays captured."""
    PAYMENT_RETURNED = "payment_returned"
    """The bank took captured money back."""
    PAYMENT_UNALLOCATED = "payment_unallocated"
    """Money came that nothing waited for: too late, or more than was asked for."""
    PAYMENT_GIVEN_BACK = "payment_given_back"
    """Unallocated money went back to the customer."""
    PAYMENT_RESTATED = "payment_restated"
    """The state is published again, because a write had bypassed the outbox."""


class PaymentStatus(StrEnum):
    """State of the authorization; captured and refunded amounts are fields of their own."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    """There is at least one capture; more may follow, up to the authorized amount less the released amount."""
    VOIDED = "voided"
    """Nothing was captured, and the whole authorization was released, or its money is not waited for any longer."""
    PENDING = "pending"
    """Its money is waited for, and nothing of it has come."""
    FAILED = "failed"
    """The bank did not pay what was waited for."""


class PaymentMethod(StrEnum):
    """How a payment is made whose money comes days later."""

    BANK_TRANSFER = "bank_transfer"
    """The customer transfers it, in one part or in several."""
    DIRECT_DEBIT = "direct_debit"
    """The provider collects it from the customer's account; the bank may take it back for weeks."""


class MovementKind(StrEnum):
    """What money did that is neither a capture nor a refund."""

    RETURNED = "returned"
    """The bank took captured money back."""
    UNALLOCATED = "unallocated"
    """It came, and nothing waited for it."""
    GIVEN_BACK = "given_back"
    """Unallocated money went back to the customer."""


class PaymentMovement(Value, frozen=True, kw_only=True):
    """One movement of a payment's money that is neither a capture nor a refund. Table payment_movements."""

    KEY: ClassVar[tuple[str, ...]] = ("payment_movement_id",)

    payment_movement_id: Uuid
    """The movement."""
    kind: MovementKind
    """What the money did."""
    provider_reference: str
    """The provider's name for the receipt that came, was returned, or was given back."""
    amount_minor: AmountMinor
    """How much moved."""
    fee_minor: AmountOrNoneMinor
    """What the provider keeps for it."""
    reason: Note
    """Why, in the words of the provider, or of the person who recorded it."""
    moved_at: datetime
    """When it was recorded."""


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


class DisputeStatus(StrEnum):
    """State of a dispute."""

    OPENED = "opened"
    WON = "won"
    LOST = "lost"


class PaymentDispute(Value, frozen=True, kw_only=True):
    """One dispute about a payment. Table payment_disputes."""

    KEY: ClassVar[tuple[str, ...]] = ("payment_dispute_id",)

    payment_dispute_id: Uuid
    """The dispute."""
    provider_reference: str
    """The provider's name for it."""
    status: DisputeStatus
    """Whether it is open, or who has the money."""
    amount_minor: AmountMinor
    """What the customer's bank asks back."""
    fee_minor: AmountOrNoneMinor
    """What the provider keeps for it, whatever its end."""
    reason: Note
    """Why, in the provider's words."""
    opened_at: datetime
    """When it was recorded."""
    ended_at: datetime | None
    """When its end was recorded; None while it is open."""


class PaymentState(AggregateState, frozen=True, kw_only=True):
    """A payment of an order; refunded_minor <= captured_minor <= authorized_minor - released_minor.

    While `expires_at` is set, money is waited for: authorized_minor - released_minor - captured_minor.
    """

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
    """What was authorized, or asked for where the money comes later."""
    captured_minor: AmountOrNoneMinor
    """Sum of the captures."""
    refunded_minor: AmountOrNoneMinor
    """Sum of completed refunds."""
    authorized_at: datetime
    """When it was authorized, declined, or asked for."""
    captures: list[PaymentCapture]
    """Ordered by (captured_at, payment_capture_id)."""
    released_minor: int = 0
    """The part of a captured payment's authorization that was released. A voided payment is released as a whole."""
    gift_card_id: Uuid | None = None
    """The gift card that paid it; None: the provider did."""
    disputes: list[PaymentDispute] = msgspec.field(default_factory=list)
    """Ordered by (opened_at, payment_dispute_id)."""
    disputed_minor: AmountOrNoneMinor = 0
    """Sum of open disputes: the provider holds it, and may give it back."""
    charged_back_minor: AmountOrNoneMinor = 0
    """Sum of lost disputes."""
    dispute_fee_minor: AmountOrNoneMinor = 0
    """Sum of the fees of all disputes."""
    method: PaymentMethod | None = None
    """How its money comes later; None: it does not, a card is charged at once."""
    expires_at: datetime | None = None
    """How long its money is waited for; None: it is not, or not any longer."""
    pay_to: Reference | None = None
    """The account to which the customer transfers it, stating the provider's reference; None: to none."""
    failure_reason: Note | None = None
    """Why the bank did not pay; None: it did, or nobody has asked it."""
    movements: list[PaymentMovement] = msgspec.field(default_factory=list)
    """Ordered by (moved_at, payment_movement_id)."""
    returned_minor: AmountOrNoneMinor = 0
    """Sum of captured money that the bank took back. It is owed again."""
    return_fee_minor: AmountOrNoneMinor = 0
    """Sum of the fees of all movements."""
    unallocated_minor: AmountOrNoneMinor = 0
    """What came and nothing waited for, less what was given back."""
