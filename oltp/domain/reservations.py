"""What happens to reserved units: taken over by an order, consumed, released, expired.

Belongs here: functions from a reservation's state to its next state. Does not belong here: stock levels, which the
commands change by the same units.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from contracts.errors import ConflictError
from contracts.events.stock import ReservationLine, ReservationState, ReservationStatus
from oltp.domain.transitions import RESERVATION_TRANSITIONS, require_transition


def held_quantity(line: ReservationLine) -> int:
    """Return the units the line still holds."""
    return line.quantity - line.consumed_quantity - line.released_quantity


def held_by_variant(reservation: ReservationState) -> dict[str, int]:
    """Return the units still held, by variant id, without variants at 0."""
    held: dict[str, int] = {}
    for line in reservation.lines:
        if held_quantity(line):
            held[line.variant_id] = held.get(line.variant_id, 0) + held_quantity(line)
    return held


def take_over(
    reservation: ReservationState, order_id: str, location_id: str, needed: Mapping[str, int], at: datetime
) -> ReservationState:
    """Return the reservation assigned to the order; it no longer expires.

    Raises ConflictError unless it belongs to no order, has not ended, and holds exactly the units that the order needs
    at the location.
    """
    name = f"Reservation {reservation.reservation_id}"
    require_transition(RESERVATION_TRANSITIONS, reservation.status, ReservationStatus.HELD, name)
    if reservation.order_id is not None:
        raise ConflictError(f"{name} belongs to order {reservation.order_id}.")
    if reservation.expires_at is not None and reservation.expires_at <= at:
        raise ConflictError(f"{name} has expired; reserve again.")
    if any(line.location_id != location_id for line in reservation.lines if held_quantity(line)):
        raise ConflictError(f"{name} holds units at another location than {location_id}.")
    if held_by_variant(reservation) != dict(needed):
        raise ConflictError(f"{name} does not hold exactly what the order needs; reserve again.")
    return msgspec.structs.replace(reservation, version=reservation.version + 1, order_id=order_id, expires_at=None)


def consume(reservation: ReservationState, quantities: Mapping[str, int]) -> ReservationState:
    """Return the reservation after `quantities` (units by variant id) were shipped."""
    return _take(reservation, quantities, "consumed_quantity", ReservationStatus.CONSUMED)


def release(
    reservation: ReservationState,
    quantities: Mapping[str, int] | None = None,
    end: ReservationStatus = ReservationStatus.RELEASED,
) -> ReservationState:
    """Return the reservation after `quantities` (None: all held units) went back to stock; `end` is the end state."""
    taken = held_by_variant(reservation) if quantities is None else quantities
    return _take(reservation, taken, "released_quantity", end)


def _take(
    reservation: ReservationState, quantities: Mapping[str, int], field: str, end: ReservationStatus
) -> ReservationState:
    """Take units out of the lines in their order; when no line holds units any more, the status becomes `end`."""
    left = dict(quantities)
    lines = []
    for line in reservation.lines:
        taken = min(left.get(line.variant_id, 0), held_quantity(line))
        if taken:
            left[line.variant_id] -= taken
            line = msgspec.structs.replace(line, **{field: getattr(line, field) + taken})
        lines.append(line)
    name = f"Reservation {reservation.reservation_id}"
    status = ReservationStatus.HELD if any(held_quantity(line) for line in lines) else end
    require_transition(RESERVATION_TRANSITIONS, reservation.status, status, name)
    if any(left.values()):
        raise ConflictError(f"{name} holds fewer units than asked for.")
    return msgspec.structs.replace(reservation, version=reservation.version + 1, status=status, lines=lines)
