"""Events of a fulfillment: units of an order that left a location together (or services rendered)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value
from contracts.limits import LocationId, Reference, Uuid


class FulfillmentEvent(StrEnum):
    """A fulfillment happens once and never changes; a return is a refund with restocked lines."""

    FULFILLMENT_SHIPPED = "fulfillment_shipped"


class FulfillmentLine(Value, frozen=True, kw_only=True):
    """Units of one order line. Table fulfillment_lines."""

    KEY: ClassVar[tuple[str, ...]] = ("fulfillment_line_id",)

    fulfillment_line_id: Uuid
    """The line."""
    order_line_id: Uuid
    """The order line."""
    quantity: int
    """Number of units of the order line that left."""


class FulfillmentState(AggregateState, frozen=True, kw_only=True):
    """Units of one order shipped together; always version 1."""

    AGGREGATE_TYPE: ClassVar[str] = "fulfillment"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("shipped_at",)

    fulfillment_id: Uuid
    """The fulfillment."""
    order_id: Uuid
    """The order."""
    location_id: LocationId
    """The location that the units left."""
    tracking_number: Reference | None
    """The carrier's number; None: there is none."""
    shipped_at: datetime
    """When they left."""
    lines: list[FulfillmentLine]
    """Ordered by fulfillment_line_id."""
