"""The page of a product: what a shop shows before somebody buys, put together in one statement and one snapshot.

Belongs here: the page, and reading it from a pod's database, the primary or a replica. Does not belong here: keeping it
(`derived/answer_cache/`), any decision (a command reads again what it decides on, in its own transaction).

The page is of active products of active merchants, with their active variants. The prices are those of the merchant's
currency. Of goods it says how many units can be sold now, over all locations.
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from contracts.assembled import Assembled, merchant_tag, product_tag, variant_tag
from contracts.errors import PodFencedError
from contracts.events.product import ProductKind
from contracts.struct_types import make_known


class PageVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant as its product's page shows it."""

    variant_id: str
    sku: str
    title: str
    unit_price_micro: int | None
    """None: not for sale at a catalog price."""
    available_quantity: int | None
    """Units on hand that nobody has reserved; None: a service, which has no stock."""


class PageMerchant(msgspec.Struct, frozen=True, kw_only=True):
    """What of its merchant's configuration a product's page shows."""

    merchant_id: str
    name: str
    currency: str
    is_tax_inclusive: bool
    shipping_fee_minor: int
    free_shipping_from_minor: int | None


class ProductPage(msgspec.Struct, frozen=True, kw_only=True):
    """The page of one product."""

    product_id: str
    version: int
    """Of the product; grows with every change of it, its variants or their prices."""
    title: str
    kind: ProductKind
    merchant: PageMerchant
    variants: list[PageVariant]
    """Ordered by (sku, variant_id)."""


make_known(ProductPage)

# One statement is one snapshot: the cut that it shows and the facts belong together, also on a replica.
_PAGE = """
select resident.directory_epoch, last_cut.cut, last_cut.epoch, page.body
from (select) as nothing
left join oltp.residents as resident on resident.merchant_id = %(merchant_id)s
left join lateral (select cut, epoch from oltp.cuts order by cut desc limit 1) as last_cut on true
left join lateral (
    select json_build_object(
        'product_id', product.product_id, 'version', product.version, 'title', product.title, 'kind', product.kind,
        'merchant', json_build_object(
            'merchant_id', merchant.merchant_id, 'name', merchant.name, 'currency', merchant.currency,
            'is_tax_inclusive', merchant.is_tax_inclusive, 'shipping_fee_minor', merchant.shipping_fee_minor,
            'free_shipping_from_minor', merchant.free_shipping_from_minor
        ),
        'variants', coalesce(variants.listed, '[]')
    )::text as body
    from oltp.products as product
    inner join oltp.merchants as merchant on merchant.merchant_id = product.merchant_id
    cross join lateral (
        select json_agg(
            json_build_object(
                'variant_id', variant.variant_id, 'sku', variant.sku, 'title', variant.title,
                'unit_price_micro', price.unit_price_micro,
                'available_quantity', case when product.kind = 'goods' then (
                    select coalesce(sum(level.on_hand - level.reserved), 0)
                    from oltp.stock_levels as level where level.variant_id = variant.variant_id
                ) end
            ) order by variant.sku, variant.variant_id
        ) as listed
        from oltp.variants as variant
        left join oltp.prices as price on price.variant_id = variant.variant_id and price.currency = merchant.currency
        where variant.product_id = product.product_id and variant.is_active
    ) as variants
    where product.product_id = %(product_id)s::uuid and product.merchant_id = %(merchant_id)s
        and product.is_active and merchant.is_active
) as page on true
"""


def read_product_page(
    connection: psycopg.Connection[Any], merchant_id: str, product_id: str, *, directory_epoch: int
) -> Assembled:
    """Return a product's page, in one round trip; no body when the merchant shows no such product.

    Raises PodFencedError unless the merchant lives in this pod since this epoch of the directory.
    """
    row = connection.execute(_PAGE, {"merchant_id": merchant_id, "product_id": product_id}).fetchone()
    resident_since, cut, epoch, text = row if row is not None else (None, None, None, None)
    if resident_since != directory_epoch:
        raise PodFencedError(f"Merchant {merchant_id} does not live in this pod as of epoch {directory_epoch}.")
    page = None if text is None else msgspec.json.decode(text, type=ProductPage)
    shown = [variant_tag(variant.variant_id) for variant in page.variants] if page is not None else []
    return Assembled(
        body=None if page is None else msgspec.json.encode(page),
        epoch=epoch or "",
        cut=cut or 0,
        tags=(merchant_tag(merchant_id), product_tag(product_id), *shown),
    )
