"""A product as a shop shows it: its variants with their prices, and how many units can be sold now.

Belongs here: these questions. Does not belong here: changing a product (`oltp/commands/upsert_product.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg

from contracts.errors import NotFoundError

_PAGE = """
select
    products.product_id::text,
    products.version,
    products.title,
    products.kind,
    products.is_active,
    merchants.currency,
    coalesce((
        select json_agg(json_build_object(
            'variant_id', variants.variant_id,
            'sku', variants.sku,
            'title', variants.title,
            'unit_price_micro', prices.unit_price_micro,
            'is_active', variants.is_active and products.is_active and merchants.is_active,
            'available_quantity', case when products.kind = 'goods' then coalesce((
                select sum(levels.on_hand - levels.reserved) from oltp.stock_levels as levels
                where levels.variant_id = variants.variant_id and levels.merchant_id = variants.merchant_id
            ), 0) end
        ) order by variants.sku, variants.variant_id)
        from oltp.variants
        left join oltp.prices on variants.variant_id = prices.variant_id and prices.currency = merchants.currency
        where variants.product_id = products.product_id
    ), '[]')::text,
    products.brand,
    products.body,
    coalesce((
        select json_object_agg(attributes.name, attributes.value order by attributes.name)
        from oltp.product_attributes as attributes
        where attributes.product_id = products.product_id
    ), '{}')::text
from oltp.products
inner join oltp.merchants using (merchant_id)
where products.merchant_id = %(merchant_id)s
"""
ONE_PRODUCT = _PAGE + " and products.product_id = %(product_id)s"
"""One product of a merchant, by both ids."""
_LIST = _PAGE + " and products.product_id > %(after)s order by products.product_id limit %(limit)s"
_LEVELS = """
select location_id, sum(on_hand)::bigint, sum(reserved)::bigint, count(*) from oltp.stock_slots
where merchant_id = %s and variant_id = %s group by location_id order by location_id
"""
_IS_VARIANT = "select exists (select from oltp.variants where merchant_id = %s and variant_id = %s)"
FIRST_ID = "00000000-0000-0000-0000-000000000000"


class VariantPage(msgspec.Struct, frozen=True, kw_only=True):
    """A variant as it can be bought now."""

    variant_id: str
    sku: str
    title: str
    unit_price_micro: int | None
    """Null: it has no price, so it cannot be sold."""
    available_quantity: int | None
    """Units at all locations that nobody has reserved; null: it is a service, of which there is always enough."""
    is_active: bool


class ProductPage(msgspec.Struct, frozen=True, kw_only=True):
    """A product with its variants, by SKU."""

    product_id: str
    version: int
    title: str
    kind: str
    is_active: bool
    currency: str
    variants: list[VariantPage]
    brand: str = ""
    """Who makes it; empty: nobody is named."""
    body: str = ""
    """The description, plain text."""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """Name -> value, by name."""


class StockLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a variant at one location."""

    location_id: str
    on_hand: int
    reserved: int
    slots: int
    """Over how many counters the level is spread; more than 1: the variant is hot here."""


def product_page(connection: psycopg.Connection[Any], merchant_id: str, product_id: str) -> ProductPage:
    """Return a product as it stands now; NotFoundError when the merchant has no such product."""
    row = connection.execute(ONE_PRODUCT, {"merchant_id": merchant_id, "product_id": product_id}).fetchone()
    if row is None:
        raise NotFoundError(f"Merchant {merchant_id} has no product {product_id}.")
    return product_of(row)


def product_pages(
    connection: psycopg.Connection[Any], merchant_id: str, *, after: str | None, limit: int
) -> list[ProductPage]:
    """Return at most `limit` products with a higher id than `after`, by id."""
    values = {"merchant_id": merchant_id, "after": after or FIRST_ID, "limit": limit}
    return [product_of(row) for row in connection.execute(_LIST, values).fetchall()]


def stock_levels(connection: psycopg.Connection[Any], merchant_id: str, variant_id: str) -> list[StockLevel]:
    """Return the units of a variant at every location; NotFoundError when the merchant has no such variant."""
    rows = connection.execute(_LEVELS, (merchant_id, variant_id)).fetchall()
    row = connection.execute(_IS_VARIANT, (merchant_id, variant_id)).fetchone()
    if row is None or not row[0]:
        raise NotFoundError(f"Merchant {merchant_id} has no variant {variant_id}.")
    return [
        StockLevel(location_id=location, on_hand=on_hand, reserved=reserved, slots=slots)
        for location, on_hand, reserved, slots in rows
    ]


def product_of(row: Sequence[Any]) -> ProductPage:
    """Return the product of a row of ONE_PRODUCT."""
    product_id, version, title, kind, is_active, currency, variants, brand, body, attributes = row
    return ProductPage(
        product_id=product_id,
        version=version,
        title=title,
        kind=kind,
        is_active=is_active,
        currency=currency,
        variants=msgspec.json.decode(variants, type=list[VariantPage]),
        brand=brand,
        body=body,
        attributes=msgspec.json.decode(attributes, type=dict[str, str]),
    )
