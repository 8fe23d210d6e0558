"""Events of a refund: money given back for lines of an order, with the tax in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value


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

    refund_line_id: str
    order_line_id: str
    quantity: int
    amount_minor: int
    tax_minor: int
    jurisdiction: str
    """Copied from the order line, like tax_category: a refund goes back to where the tax was charged."""
    tax_category: str
    is_restocked: bool
    is_amount_named: bool = False
    """Whether the amount was asked for as such; else it is what the units cost."""


class RefundState(AggregateState, frozen=True, kw_only=True):
    """A refund on one payment; the amount is the sum of its lines."""

    AGGREGATE_TYPE: ClassVar[str] = "refund"
    ID_FIELD: ClassVar[str] = "refund_id"

    refund_id: str
    order_id: str
    payment_id: str
    customer_id: str | None
    currency: str
    status: RefundStatus
    reason: str
    external_reference: str | None
    """E.g. the number of the credit note."""
    amount_minor: int
    tax_minor: int
    provider_reference: str | None
    failure_reason: str | None
    requested_at: datetime
    completed_at: datetime | None
    lines: list[RefundLine]
    """Ordered by refund_line_id."""
