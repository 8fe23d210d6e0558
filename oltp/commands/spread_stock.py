"""Spread the stock of a hot variant over slots, or fold it back, while it is sold."""

from __future__ import annotations

from contracts.errors import NotFoundError
from contracts.limits import STOCK_SLOTS, LocationId, Note, Uuid
from oltp.commands.execute import Command
from oltp.store import stock
from oltp.store.stock import StockLayout
from oltp.transaction import CommandTransaction

_IS_VARIANT = "select exists (select from oltp.variants where merchant_id = %s and variant_id = %s)"


class SpreadStock(Command[StockLayout], frozen=True, kw_only=True):
    """Mark a variant hot at a location: its level is spread over slots, so that its buyers do not wait for each other.

    `is_spread` false folds the level back into one counter. The level stays as it is, and a level that is spread (or
    folded) already changes nothing. `is_preview`: only say what would be done.
    """

    location_id: LocationId
    variant_id: Uuid
    is_spread: bool = True
    reason: Note = ""
    is_preview: bool = False

    def run(self, tx: CommandTransaction) -> StockLayout:
        """Return how the level was spread before and is now; NotFoundError for a variant of another merchant."""
        slots = STOCK_SLOTS if self.is_spread else 1
        if not self.is_preview:
            return stock.spread(tx, self.merchant_id, self.location_id, self.variant_id, slots, self.reason)
        row = tx.query(_IS_VARIANT, (self.merchant_id, self.variant_id)).fetchone()
        if row is None or not row[0]:
            raise NotFoundError(f"Merchant {self.merchant_id} has no variant {self.variant_id}.")
        return stock.look_at_spread(tx, self.merchant_id, self.location_id, self.variant_id, slots)
