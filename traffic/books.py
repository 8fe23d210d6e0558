"""Queries that every import runs on a pod before it books anything.

Belongs here: the SQL queries that imports of all formats share. Does not belong here: writing (commands only), and the
queries of one format (`retail/books.py`, `orders/books.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

_STORED_KEYS = """
select stored.merchant_id, stored.idempotency_key, stored.body_hash
from unnest(%s::text[], %s::text[]) as wanted (merchant_id, idempotency_key)
inner join oltp.idempotency_keys as stored using (merchant_id, idempotency_key)
"""

_VARIANTS = """
select variants.merchant_id, variants.sku, variants.product_id::text
from oltp.variants
where variants.merchant_id = any(%(merchants)s)
"""

_AVAILABLE = """
select stock_levels.merchant_id, variants.sku, stock_levels.on_hand - stock_levels.reserved
from oltp.stock_levels
inner join oltp.variants using (variant_id)
where stock_levels.merchant_id = any(%(merchants)s) and stock_levels.location_id = %(location_id)s
"""


def connect(dsn: str) -> Connection:
    """Return an autocommit connection for queries; times are in UTC."""
    return psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC", application_name="tieout-import")


def stored_keys(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the body hash of each of the (merchant, idempotency key) pairs that is stored."""
    if not keys:
        return {}
    merchants, names = zip(*keys, strict=True)
    rows = connection.execute(_STORED_KEYS, (list(merchants), list(names))).fetchall()
    return {(merchant_id, key): body_hash for merchant_id, key, body_hash in rows}


def variants(connection: Connection, merchants: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the product id of every existing variant, by (merchant, SKU)."""
    rows = connection.execute(_VARIANTS, {"merchants": list(merchants)}).fetchall()
    return {(merchant_id, sku): product_id for merchant_id, sku, product_id in rows}


def available_units(connection: Connection, merchants: Sequence[str], location_id: str) -> dict[tuple[str, str], int]:
    """Return the units that can be sold at the location, by (merchant, SKU)."""
    parameters = {"merchants": list(merchants), "location_id": location_id}
    rows = connection.execute(_AVAILABLE, parameters).fetchall()
    return {(merchant_id, sku): units for merchant_id, sku, units in rows}
