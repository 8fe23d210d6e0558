"""Events of stock: movements of units on hand, and reservations of them.

Stock levels are counters that commands update: on hand = sum of movements, reserved = sum of the held reservations.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value
from contracts.limits import LocationId, Note, Uuid


class StockMovementEvent(StrEnum):
    """A movement happens once and never changes."""

    STOCK_MOVED = "stock_moved"


class StockMovementKind(StrEnum):
    """Why units came or went."""

    RECEIVED = "received"
    ADJUSTED = "adjusted"
    WRITTEN_OFF = "written_off"
    SHIPPED = "shipped"
    RETURNED = "returned"


class StockMovementState(AggregateState, frozen=True, kw_only=True):
    """One movement of units of one variant at one location; always version 1."""

    AGGREGATE_TYPE: ClassVar[str] = "stock_movement"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("moved_at",)

    stock_movement_id: Uuid
    """The movement."""
    variant_id: Uuid
    """The variant."""
    location_id: LocationId
    """The place where the stock is."""
    kind: StockMovementKind
    """Why the units came or went."""
    quantity: int
    """Signed units, never 0; shipped and written off are negative."""
    reason: Note
    """The reason, as the person or program that did it wrote it."""
    order_id: Uuid | None
    """The order that shipped or returned the units; None: no order did."""
    moved_at: datetime
    """When they came or went."""


class ReservationEvent(StrEnum):
    """What can happen to a reservation."""

    STOCK_RESERVED = "stock_reserved"
    RESERVATION_CONSUMED = "reservation_consumed"
    RESERVATION_RELEASED = "reservation_released"
    RESERVATION_EXPIRED = "reservation_expired"
    RESERVATION_RESTATED = "reservation_restated"
    """The state is published again, because a write had bypassed the outbox."""


class ReservationStatus(StrEnum):
    """Held while any line still holds units. Afterwards the status names the step that emptied the reservation."""

    HELD = "held"
    CONSUMED = "consumed"
    RELEASED = "released"
    EXPIRED = "expired"


class ReservationLine(Value, frozen=True, kw_only=True):
    """Units held of one variant: quantity - consumed_quantity - released_quantity. Table reservation_lines."""

    KEY: ClassVar[tuple[str, ...]] = ("reservation_line_id",)

    reservation_line_id: Uuid
    """The line."""
    variant_id: Uuid
    """The variant."""
    location_id: LocationId
    """The place where the stock is."""
    quantity: int
    """Units set aside at first."""
    consumed_quantity: int
    """Units of them that were shipped."""
    released_quantity: int
    """Units of them that were given back."""


class ReservationState(AggregateState, frozen=True, kw_only=True):
    """Units set aside for an order, or for a customer who may place one."""

    AGGREGATE_TYPE: ClassVar[str] = "reservation"

    reservation_id: Uuid
    """The reservation."""
    order_id: Uuid | None
    """The order that it is for; None: there is none yet."""
    status: ReservationStatus
    """Whether it still holds units; if not, how it ended."""
    expires_at: datetime | None
    """None: does not expire (it belongs to a placed order)."""
    lines: list[ReservationLine]
    """Ordered by reservation_line_id."""
