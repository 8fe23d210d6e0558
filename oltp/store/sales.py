"""The catalog data of a sale: for each SKU the variant, its product's kind and tax category, and its price.

Belongs here: this one query. Does not belong here: upserting products (`oltp/commands/upsert_product.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from contracts.events.common import Value
from contracts.events.product import ProductKind
from oltp.transaction import CommandTransaction

_SELLABLE = """
select
    variants.sku,
    variants.variant_id::text,
    variants.title,
    products.kind,
    products.tax_category,
    variants.is_active and products.is_active,
    prices.unit_price_micro
from oltp.variants
inner join oltp.products using (product_id)
inner join oltp.merchants on variants.merchant_id = merchants.merchant_id
left join oltp.prices on variants.variant_id = prices.variant_id and merchants.currency = prices.currency
where variants.merchant_id = %s and variants.sku = any(%s::text[])
"""


class Sellable(Value, frozen=True, kw_only=True):
    """A variant that can be sold now; `unit_price_micro` None: it has no catalog price."""

    sku: str
    variant_id: str
    title: str
    kind: ProductKind
    tax_category: str
    is_active: bool
    unit_price_micro: int | None


def sellables(tx: CommandTransaction, merchant_id: str, skus: Iterable[str]) -> Callable[[], dict[str, Sellable]]:
    """Ask for the merchant's variants of these SKUs; the returned function gives the existing ones, by SKU."""
    cursor = tx.query(_SELLABLE, [merchant_id, sorted(set(skus))])

    def answer() -> dict[str, Sellable]:
        return {
            sku: Sellable(
                sku=sku,
                variant_id=variant_id,
                title=title,
                kind=ProductKind(kind),
                tax_category=tax_category,
                is_active=is_active,
                unit_price_micro=unit_price_micro,
            )
            for sku, variant_id, title, kind, tax_category, is_active, unit_price_micro in cursor.fetchall()
        }

    return answer
