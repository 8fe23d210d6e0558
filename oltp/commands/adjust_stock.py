"""Correct the stock of one variant, or write units off."""

from __future__ import annotations

from typing import ClassVar

from contracts.errors import InputError
from contracts.events.stock import StockMovementKind, StockMovementState
from contracts.limits import LocationId, Note, SignedQuantity, Uuid
from oltp.commands.execute import Command
from oltp.store import stock
from oltp.transaction import CommandTransaction

KINDS = (StockMovementKind.ADJUSTED, StockMovementKind.WRITTEN_OFF)
"""The kinds that a person may book; receiving, shipping and returning book the other kinds."""


class AdjustStock(Command[StockMovementState], frozen=True, kw_only=True):
    """Change the stock by signed units: negative units leave; a write-off is negative. Reserved units cannot leave."""

    IS_BATCHABLE: ClassVar[bool] = True

    location_id: LocationId
    variant_id: Uuid
    quantity: SignedQuantity
    kind: StockMovementKind = StockMovementKind.ADJUSTED
    reason: Note = ""

    def run(self, tx: CommandTransaction) -> StockMovementState:
        """Return the movement; InsufficientStockError when fewer units are free."""
        if self.kind not in KINDS:
            raise InputError(f"Stock cannot be adjusted as {self.kind}; use {' or '.join(KINDS)}.")
        if self.quantity == 0 or (self.kind == StockMovementKind.WRITTEN_OFF and self.quantity > 0):
            raise InputError("The quantity cannot be 0, and units written off are negative.")
        quantities = {self.variant_id: self.quantity}
        (movement,) = stock.move(tx, self.merchant_id, self.location_id, self.kind, quantities, self.reason)
        return movement
