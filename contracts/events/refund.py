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
    REFUND_RESTATED = "refund_restated"
    """Stated again as it is, because a write had bypassed the outbox."""


class RefundStatus(StrEnum):
    """Requested refunds already count against what may be refunded; failed ones no longer do."""

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
    """Copied from the order line, like tax_category: a refund goes back to where the tax was charged."""
    tax_category: TaxCategory
    """By which the rate was chosen."""
    is_restocked: bool
    """Whether the units go back to stock."""
    is_amount_named: bool = False
    """Whether the amount was asked for as such; else it is what the units cost."""


class RefundLineTax(Value, frozen=True, kw_only=True):
    """What of one of several taxes is given back with a refund's line. Table refund_line_taxes."""

    KEY: ClassVar[tuple[str, ...]] = ("refund_line_id", "jurisdiction")

    refund_line_id: Uuid
    """The refund's line."""
    jurisdiction: Jurisdiction
    """Where this tax was owed."""
    tax_minor: AmountOrNoneMinor
    """What of this tax is given back."""


class RefundState(AggregateState, frozen=True, kw_only=True):
    """A refund on one payment; the amount is the sum of its lines."""

    AGGREGATE_TYPE: ClassVar[str] = "refund"
    ID_FIELD: ClassVar[str] = "refund_id"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("requested_at", "completed_at")

    refund_id: Uuid
    """The refund."""
    order_id: Uuid
    """The order."""
    payment_id: Uuid
    """The payment that money is given back of."""
    customer_id: CustomerId | None
    """The customer, by the merchant's own id; None for a guest."""
    currency: Currency
    """Of every amount, an ISO 4217 code."""
    status: RefundStatus
    """Whether the money went."""
    reason: Note
    """Why, in the words of whoever did it."""
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
    """When the money went; None until then."""
    lines: list[RefundLine]
    """Ordered by refund_line_id."""
    line_taxes: list[RefundLineTax] = msgspec.field(default_factory=list)
    """Of the lines with several taxes, ordered by (refund_line_id, jurisdiction); they sum to the line's tax_minor."""
    gift_card_id: Uuid | None = None
    """The gift card that the money is paid onto; None: it goes back through the provider."""
