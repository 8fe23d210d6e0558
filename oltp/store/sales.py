"""The catalog data of a sale: for each SKU the variant, its product's kind and tax category, and its price.

Belongs here: this one query, also together with that of the merchant. Does not belong here: upserting products
(`oltp/commands/upsert_product.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import msgspec
import psycopg

from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.events.product import ProductKind
from oltp.store.mapping import MAPPINGS
from oltp.store.rows import required
from oltp.transaction import CommandTransaction, Row

_SELLABLES = """
select coalesce(json_agg(sold), '[]')::text from (
    select
        variants.sku,
        variants.variant_id,
        variants.title,
        products.kind,
        products.tax_category,
        variants.is_active and products.is_active as is_active,
        prices.unit_price_micro
    from oltp.variants
    inner join oltp.products using (product_id)
    inner join oltp.merchants on variants.merchant_id = merchants.merchant_id
    left join oltp.prices on variants.variant_id = prices.variant_id and merchants.currency = prices.currency
    where variants.merchant_id = %s and variants.sku = any(%s::text[])
) as sold
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
    cursor = tx.query(_SELLABLES, [merchant_id, sorted(set(skus))])
    return lambda: _by_sku(_only(cursor)[0])


def merchant_and_sellables(
    tx: CommandTransaction, merchant_id: str, skus: Iterable[str]
) -> tuple[Callable[[], MerchantState], Callable[[], dict[str, Sellable]]]:
    """Ask for the merchant and for `sellables` by one statement; call the first of the returned functions first."""
    cursor = tx.query(_with_merchant(), [merchant_id, merchant_id, merchant_id, sorted(set(skus))])
    rows: list[Row] = []

    def merchant() -> MerchantState:
        rows.append(_only(cursor))
        found = [msgspec.json.decode(text, type=MerchantState) for text in rows[0][:1] if text is not None]
        return required(found, MerchantState, merchant_id, merchant_id)

    return merchant, lambda: _by_sku(rows[0][1])


@cache
def _with_merchant() -> bytes:
    merchant = MAPPINGS[MerchantState].select(MerchantState.ID_FIELD).decode()
    return f"select ({merchant}), ({_SELLABLES})".encode()


def _only(cursor: psycopg.Cursor[Row]) -> Row:
    (row,) = cursor.fetchall()
    return row


def _by_sku(text: str) -> dict[str, Sellable]:
    return {item.sku: item for item in msgspec.json.decode(text, type=list[Sellable])}
