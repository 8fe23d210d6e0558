"""Stock inside a command's transaction: counters, and the movements that carry their events.

    reserve(tx, merchant_id, location_id, {variant_id: units})      reserved + units
    release(tx, merchant_id, location_id, {variant_id: units})      reserved - units
    follow(tx, before, after)                                       reserved, by what a reservation holds more or less
    move(tx, merchant_id, location_id, kind, {variant_id: signed units}, reason, order_id=None, is_reserved=False)
                                                                    on_hand, with one movement and event per variant

    spread(tx, merchant_id, location_id, variant_id, slots, reason) how many counters a level is spread over

Belongs here: changes of stock levels. Does not belong here: reservations (`oltp/domain/reservations.py`, saved through
`oltp/store/rows.py`); a command that saves a reservation must change the counters by the same units.

A level is one counter, or several (slots) for a hot variant: buyers lock any of them, so they do not wait for each
other. `oltp.move_stock` finds the slots that have the units (`0027_cheaper_orders.sql`); callers need not know.

Many transactions update the same counters, and their rows stay locked until the commit; so call these functions last.
Errors are raised at the next fetch or at the commit: InsufficientStockError (names the variant), NotFoundError for a
variant of another merchant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from contracts.events.common import Value
from contracts.events.stock import ReservationState, StockMovementEvent, StockMovementKind, StockMovementState
from contracts.limits import LocationId, Uuid
from oltp.domain.reservations import held_quantity
from oltp.outbox import Change
from oltp.store.arrays import Array
from oltp.store.rows import save_all
from oltp.transaction import CommandTransaction, Row

_MOVE = b"select oltp.move_stock(%s, %s, %s::uuid[], %s::bigint[], %s::bigint[])"
_SPREAD = "select * from oltp.spread_stock(%s, %s, %s::uuid, %s::smallint, %s::uuid, %s, %s)"
_LAYOUT = """
select coalesce(max(slots), 1), coalesce(sum(on_hand), 0)::bigint, coalesce(sum(reserved), 0)::bigint
from oltp.stock_slots where merchant_id = %s and location_id = %s and variant_id = %s
"""


class StockLayout(Value, frozen=True, kw_only=True):
    """How a variant's level at one location is spread, and the level, which that does not change."""

    variant_id: Uuid
    location_id: LocationId
    slots_before: int
    """1: one counter."""
    slots: int
    """Equal to `slots_before`: nothing changed."""
    on_hand: int
    reserved: int


def reserve(tx: CommandTransaction, merchant_id: str, location_id: str, quantities: Mapping[str, int]) -> None:
    """Reserve units, by variant id; every quantity > 0."""
    _count(tx, merchant_id, location_id, {}, quantities)


def release(tx: CommandTransaction, merchant_id: str, location_id: str, quantities: Mapping[str, int]) -> None:
    """Release reserved units, by variant id; every quantity > 0."""
    _count(tx, merchant_id, location_id, {}, {variant_id: -units for variant_id, units in quantities.items()})


def follow(tx: CommandTransaction, before: ReservationState | None, after: ReservationState) -> None:
    """Change `reserved` by the difference of the units that the reservation holds, at every location of it."""
    follow_all(tx, [(before, after)])


def follow_all(tx: CommandTransaction, steps: Sequence[tuple[ReservationState | None, ReservationState]]) -> None:
    """Change `reserved` by the difference of the units that several reservations of one merchant hold."""
    held: dict[str, dict[str, int]] = {}
    for before, after in steps:
        for state, sign in ((before, -1), (after, 1)):
            for line in state.lines if state is not None else ():
                at_location = held.setdefault(line.location_id, {})
                at_location[line.variant_id] = at_location.get(line.variant_id, 0) + sign * held_quantity(line)
    for location_id, quantities in sorted(held.items()):
        merchant_id = steps[0][1].merchant_id
        _count(tx, merchant_id, location_id, {}, {key: units for key, units in quantities.items() if units})


def move(
    tx: CommandTransaction,
    merchant_id: str,
    location_id: str,
    kind: StockMovementKind,
    quantities: Mapping[str, int],
    reason: str,
    *,
    order_id: str | None = None,
    is_reserved: bool = False,
) -> list[StockMovementState]:
    """Move units (signed, by variant id, never 0): write one movement with its event per variant, then the counters.

    `is_reserved`: the units were reserved, so subtract them from `reserved` as well (a shipment).
    """
    movements = [
        StockMovementState(
            merchant_id=merchant_id,
            version=1,
            stock_movement_id=tx.new_id(),
            variant_id=variant_id,
            location_id=location_id,
            kind=kind,
            quantity=quantity,
            reason=reason,
            order_id=order_id,
            moved_at=tx.occurred_at,
        )
        for variant_id, quantity in quantities.items()
    ]
    save_all(
        tx,
        [Change(before=None, after=movement, event_type=StockMovementEvent.STOCK_MOVED) for movement in movements],
    )
    _count(tx, merchant_id, location_id, quantities, quantities if is_reserved else {})
    return movements


def spread(
    tx: CommandTransaction, merchant_id: str, location_id: str, variant_id: str, slots: int, reason: str
) -> StockLayout:
    """Spread a level over this many slots (1 or STOCK_SLOTS), waiting for those who move it now; who did it is kept."""
    values = (merchant_id, location_id, variant_id, slots, tx.new_id(), reason, tx.occurred_at)
    return _layout(tx.query(_SPREAD, values).fetchone(), variant_id, location_id, slots)


def look_at_spread(
    tx: CommandTransaction, merchant_id: str, location_id: str, variant_id: str, slots: int
) -> StockLayout:
    """Return what `spread` would answer now; nothing changes and nothing is locked."""
    row = tx.query(_LAYOUT, (merchant_id, location_id, variant_id)).fetchone()
    return _layout(row, variant_id, location_id, slots)


def _layout(row: Row | None, variant_id: str, location_id: str, slots: int) -> StockLayout:
    slots_before, on_hand, reserved = row or (1, 0, 0)
    return StockLayout(
        variant_id=variant_id,
        location_id=location_id,
        slots_before=slots_before,
        slots=slots,
        on_hand=on_hand,
        reserved=reserved,
    )


def merged_moves(kept: Iterable[tuple[bytes, Sequence[Any]]]) -> Iterator[tuple[bytes, Sequence[Any]]]:
    """Yield the counter updates that the commands of a batch kept back, merged into one per merchant and location.

    One statement locks the counters in one order, and the constraints check only the final values.
    """
    places: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for statement, (merchant_id, location_id, *columns) in kept:
        if statement is not _MOVE:
            raise TypeError("A batch keeps back nothing but moves of stock counters.")
        moved = places.setdefault((merchant_id, location_id), {})
        for variant_id, on_hand, reserved in zip(*columns, strict=True):
            before = moved.get(variant_id, (0, 0))
            moved[variant_id] = (before[0] + on_hand, before[1] + reserved)
    for place, moved in sorted(places.items()):
        on_hands, reserveds = zip(*moved.values(), strict=True)
        yield _MOVE, (*place, Array(moved), Array(on_hands), Array(reserveds))


def _count(
    tx: CommandTransaction,
    merchant_id: str,
    location_id: str,
    on_hand: Mapping[str, int],
    reserved: Mapping[str, int],
) -> None:
    variant_ids = Array({**on_hand, **reserved})
    if variant_ids:
        on_hand_deltas = Array([on_hand.get(variant_id, 0) for variant_id in variant_ids])
        reserved_deltas = Array([reserved.get(variant_id, 0) for variant_id in variant_ids])
        tx.query_last(_MOVE, (merchant_id, location_id, variant_ids, on_hand_deltas, reserved_deltas))
