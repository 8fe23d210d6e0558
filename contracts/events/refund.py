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

    refund_line_id: Uuid
    order_line_id: Uuid
    quantity: QuantityOrNone
    amount_minor: AmountOrNoneMinor
    tax_minor: AmountOrNoneMinor
    jurisdiction: Jurisdiction
    """Copied from the order line, like tax_category: a refund goes back to where the tax was charged."""
    tax_category: TaxCategory
    is_restocked: bool
    is_amount_named: bool = False
    """Whether the amount was asked for as such; else it is what the units cost."""


class RefundLineTax(Value, frozen=True, kw_only=True):
    """What of one of several taxes is given back with a refund's line. Table refund_line_taxes."""

    refund_line_id: Uuid
    jurisdiction: Jurisdiction
    """Where this tax was owed."""
    tax_minor: AmountOrNoneMinor


class RefundState(AggregateState, frozen=True, kw_only=True):
    """A refund on one payment; the amount is the sum of its lines."""

    AGGREGATE_TYPE: ClassVar[str] = "refund"
    ID_FIELD: ClassVar[str] = "refund_id"

    refund_id: Uuid
    order_id: Uuid
    payment_id: Uuid
    customer_id: CustomerId | None
    currency: Currency
    status: RefundStatus
    reason: Note
    external_reference: Reference | None
    """E.g. the number of the credit note."""
    amount_minor: AmountOrNoneMinor
    tax_minor: AmountOrNoneMinor
    provider_reference: str | None
    failure_reason: Note | None
    requested_at: datetime
    completed_at: datetime | None
    lines: list[RefundLine]
    """Ordered by refund_line_id."""
    line_taxes: list[RefundLineTax] = msgspec.field(default_factory=list)
    """Of the lines with several taxes, ordered by (refund_line_id, jurisdiction); they sum to the line's tax_minor."""
