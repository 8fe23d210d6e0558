"""Set the catalog price of one variant."""

from __future__ import annotations

import msgspec

from contracts.errors import InputError, NotFoundError
from contracts.events.product import ProductEvent, ProductState
from contracts.limits import UnitPriceMicro, Uuid
from oltp.commands.execute import Command
from oltp.commands.upsert_product import save_product
from oltp.store.rows import load
from oltp.transaction import CommandTransaction

_PRODUCT_OF = "select product_id from oltp.variants where merchant_id = %s and variant_id = %s"


class SetPrice(Command[ProductState], frozen=True, kw_only=True):
    """Set the price of one unit, in micro-units of the merchant's currency; earlier orders keep their prices."""

    variant_id: Uuid
    unit_price_micro: UnitPriceMicro

    def run(self, tx: CommandTransaction) -> ProductState:
        """Return the product with the new price."""
        if self.unit_price_micro < 0:
            raise InputError("A price cannot be negative.")
        row = tx.query(_PRODUCT_OF, (self.merchant_id, self.variant_id)).fetchone()
        if row is None:
            raise NotFoundError(f"Merchant {self.merchant_id} has no variant {self.variant_id}.")
        before = load(tx, ProductState, self.merchant_id, row[0])
        variants = [
            msgspec.structs.replace(variant, unit_price_micro=self.unit_price_micro)
            if variant.variant_id == self.variant_id
            else variant
            for variant in before.variants
        ]
        after = msgspec.structs.replace(before, version=before.version + 1, variants=variants)
        return save_product(tx, before, after, ProductEvent.PRICE_SET)
