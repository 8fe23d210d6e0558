"""Events of a refund: money given back for lines of an order, with the tax in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import (
    AmountOrNoneMinor,
    Currency,
    CustomerId,
    Jurisdiction,
    Note,
    QuantityOrNone,
    Reference,
    TaxCategory,
    Uuid,
)


class RefundEvent(StrEnum):
    """What can happen to a refund."""

    REFUND_REQUESTED = "refund_requested"
    REFUND_COMPLETED = "refund_completed"
    REFUND_FAILED = "refund_failed"
    """It will not be paid; or it had been, and the money came back to the provider."""
    REFUND_RESTATED = "refund_restated"
    """The state is published again, because a write had bypassed the outbox."""


class RefundStatus(StrEnum):
    """Requested and completed refunds reduce the amount that may still be refunded; failed ones do not."""

    REQUESTED = "requested"
    COMPLETED = "completed"
    FAILED = "failed"


class RefundLine(Value, frozen=True, kw_only=True):
    """What is given back for one order line; amount includes the tax. Table refund_lines."""

    KEY: ClassVar[tuple[str, ...]] = ("refund_line_id",)

    refund_line_id: Uuid
    """The refund's line."""
    order_line_id: Uuid
    """The order line."""
    quantity: QuantityOrNone
    """Units given back; 0: money only."""
    amount_minor: AmountOrNoneMinor
    """What is given back, tax included."""
    tax_minor: AmountOrNoneMinor
    """The tax in it."""
    jurisdiction: Jurisdiction
    """Copied from the order line, like tax_category, so that the tax is taken back where it was charged."""
    tax_category: TaxCategory
    """The tax category that selected the rate."""
    is_restocked: bool
    """Whether the units go back to stock."""
    is_amount_named: bool = False
    """Whether the caller named the amount; if not, the amount is the price of the units."""


class RefundLineTax(Value, frozen=True, kw_only=True):
    """The part of one of several taxes that a refund's line gives back. Table refund_line_taxes."""

    KEY: ClassVar[tuple[str, ...]] = ("refund_line_id", "jurisdiction")

    refund_line_id: Uuid
    """The refund's line."""
    jurisdiction: Jurisdiction
    """Where this tax was owed."""
    tax_minor: AmountOrNoneMinor
    """The part of this tax that is given back."""


class RefundState(AggregateState, frozen=True, kw_only=True):
    """A refund on one payment; the amount is the sum of its lines."""

    AGGREGATE_TYPE: ClassVar[str] = "refund"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("requested_at", "completed_at", "failed_at")

    refund_id: Uuid
    """The refund."""
    order_id: Uuid
    """The order."""
    payment_id: Uuid
    """The payment that is refunded."""
    customer_id: CustomerId | None
    """The customer, by the merchant's own id; None for a guest."""
    currency: Currency
    """Currency of every amount, an ISO 4217 code."""
    status: RefundStatus
    """Whether the money was paid back."""
    reason: Note
    """The reason, as the person or program that requested it wrote it."""
    external_reference: Reference | None
    """A reference outside Tieout, e.g. the number of the credit note; None: there is none."""
    amount_minor: AmountOrNoneMinor
    """What is given back, tax included: the sum over the lines."""
    tax_minor: AmountOrNoneMinor
    """The tax in it."""
    provider_reference: str | None
    """The provider's name for it; None until the provider has it."""
    failure_reason: Note | None
    """Why it failed; None: it did not."""
    requested_at: datetime
    """When it was requested."""
    completed_at: datetime | None
    """When the money was paid back; None until then."""
    lines: list[RefundLine]
    """Ordered by refund_line_id."""
    line_taxes: list[RefundLineTax] = msgspec.field(default_factory=list)
    """Taxes of lines with several taxes, ordered by (refund_line_id, jurisdiction); they sum to the line's tax."""
    gift_card_id: Uuid | None = None
    """The gift card that the money is paid onto; None: it goes back through the provider."""
    failed_at: datetime | None = None
    """When it failed; None: it did not, or before this was kept, when only unpaid refunds could fail."""
