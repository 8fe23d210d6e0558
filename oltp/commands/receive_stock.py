"""Receive units into a location's stock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from contracts.errors import InputError
from contracts.events.common import Value
from contracts.events.stock import StockMovementKind, StockMovementState
from contracts.limits import LINES, LocationId, Note, Quantity, Uuid
from oltp.commands.execute import Command
from oltp.store import stock
from oltp.transaction import CommandTransaction


class StockInput(Value, frozen=True, kw_only=True):
    """Units of one variant; quantity > 0."""

    variant_id: Uuid
    quantity: Quantity


class ReceiveStock(Command[list[StockMovementState]], frozen=True, kw_only=True):
    """Add units that arrived; lines of the same variant are added up."""

    location_id: LocationId
    lines: Annotated[list[StockInput], LINES]
    reason: Note = ""

    def run(self, tx: CommandTransaction) -> list[StockMovementState]:
        """Return one movement per variant."""
        quantities = units_by_variant(self.lines)
        return stock.move(tx, self.merchant_id, self.location_id, StockMovementKind.RECEIVED, quantities, self.reason)


def units_by_variant(lines: Sequence[StockInput]) -> dict[str, int]:
    """Return units by variant id; InputError without lines, or for a quantity below 1."""
    if not lines:
        raise InputError("At least one line of stock is needed.")
    units: dict[str, int] = {}
    for line in lines:
        if line.quantity < 1:
            raise InputError(f"Variant {line.variant_id}: the quantity is {line.quantity}; it must be at least 1.")
        units[line.variant_id] = units.get(line.variant_id, 0) + line.quantity
    return units
