"""Create or change one variant of a product."""

from __future__ import annotations

import msgspec

from contracts.events.product import ProductEvent, ProductState
from contracts.limits import Sku, Title, Uuid
from oltp.commands.execute import Command
from oltp.commands.upsert_product import VariantInput, save_product, with_variants
from oltp.store.rows import load
from oltp.transaction import CommandTransaction


class UpsertVariant(Command[ProductState], frozen=True, kw_only=True):
    """Create or update a variant; its price stays (`SetPrice` changes it)."""

    product_id: Uuid
    variant_id: Uuid
    sku: Sku
    title: Title
    is_active: bool = True

    def run(self, tx: CommandTransaction) -> ProductState:
        """Return the product; NotFoundError when it is missing, ConflictError when another variant has the SKU."""
        before = load(tx, ProductState, self.merchant_id, self.product_id)
        given = VariantInput(variant_id=self.variant_id, sku=self.sku, title=self.title, is_active=self.is_active)
        variants = with_variants(before.variants, [given])
        after = msgspec.structs.replace(before, version=before.version + 1, variants=variants)
        return save_product(tx, before, after, ProductEvent.VARIANT_UPSERTED)
