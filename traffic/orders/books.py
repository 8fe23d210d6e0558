"""Queries for the existing merchants, products and orders of a file in a pod.

Belongs here: the SQL queries of this import only. Does not belong here: queries of every import (`traffic/books.py`),
writing (commands only).
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.product import ProductKind
from traffic.books import Connection

_MERCHANTS = """
select merchant_id, name, currency, is_active, is_tax_inclusive, jurisdiction, registered_at
from oltp.merchants where merchant_id = any(%s)
"""
_RATES = """
select merchant_id, jurisdiction, tax_category, rate_ppm, owed_to
from oltp.merchant_tax_rates where merchant_id = any(%s)
"""
_PRODUCTS = """
select variants.merchant_id, variants.sku, products.kind, variants.variant_id::text
from oltp.variants
inner join oltp.products using (product_id)
where variants.merchant_id = any(%s)
"""
_LINE_IDS = """
select order_id::text, line_number::text, order_line_id::text
from oltp.order_lines where order_id = any(%s::uuid[])
"""


def merchants(connection: Connection, ids: Sequence[str]) -> dict[str, MerchantState]:
    """Return the registered merchants by id, with all their tax rates."""
    rates: dict[str, list[TaxRate]] = {}
    for merchant_id, jurisdiction, category, rate_ppm, owed_to in connection.execute(_RATES, (list(ids),)):
        rates.setdefault(merchant_id, []).append(
            TaxRate(jurisdiction=jurisdiction, tax_category=category, rate_ppm=rate_ppm, owed_to=owed_to)
        )
    found = {}
    for row in connection.execute(_MERCHANTS, (list(ids),)):
        merchant_id, name, currency, is_active, is_tax_inclusive, jurisdiction, registered_at = row
        found[merchant_id] = MerchantState(
            merchant_id=merchant_id,
            version=1,
            name=name,
            currency=currency,
            is_active=is_active,
            is_tax_inclusive=is_tax_inclusive,
            jurisdiction=jurisdiction,
            shipping_fee_minor=0,
            free_shipping_from_minor=None,
            tax_rates=rates.get(merchant_id, []),
            registered_at=registered_at,
        )
    return found


def products(connection: Connection, ids: Sequence[str]) -> dict[tuple[str, str], tuple[ProductKind, str]]:
    """Return the product kind and the variant id of every (merchant, SKU)."""
    rows = connection.execute(_PRODUCTS, (list(ids),)).fetchall()
    return {(merchant_id, sku): (ProductKind(kind), variant_id) for merchant_id, sku, kind, variant_id in rows}


def line_ids(connection: Connection, order_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each existing order its line ids by line number (as text)."""
    found: dict[str, dict[str, str]] = {}
    for order_id, number, line_id in connection.execute(_LINE_IDS, (list(order_ids),)):
        found.setdefault(order_id, {})[number] = line_id
    return found
