"""The catalog data of a sale: for each SKU the variant, its product's kind and tax category, and its price.

Belongs here: this one query, also beside that of the merchant. Does not belong here: upserting products
(`oltp/commands/upsert_product.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.events.product import ProductKind
from oltp.store.arrays import Array
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
    cursor = tx.query(_SELLABLES, [merchant_id, _listed(skus)])

    def answer() -> dict[str, Sellable]:
        ((text,),) = cursor.fetchall()
        return _by_sku(text)

    return answer


def asking_merchant_and_sellables(merchant_id: str, skus: Iterable[str]) -> tuple[bytes, Sequence[Any]]:
    """Return two subqueries with their parameters: the merchant's state, and its variants of these SKUs."""
    return _merchant_and_sellables(), (merchant_id, merchant_id, merchant_id, _listed(skus))


def merchant_and_sellables(answers: Row, merchant_id: str) -> tuple[MerchantState, dict[str, Sellable]]:
    """Return both from the answers to those subqueries; NotFoundError when there is no such merchant."""
    state, sold = answers
    found = [] if state is None else [msgspec.json.decode(state, type=MerchantState)]
    return required(found, MerchantState, merchant_id, merchant_id), _by_sku(sold)


@cache
def _merchant_and_sellables() -> bytes:
    merchant = MAPPINGS[MerchantState].select(MerchantState.ID_FIELD).decode()
    return f"({merchant}), ({_SELLABLES})".encode()


def _listed(skus: Iterable[str]) -> Array:
    return Array(sorted(set(skus)))


def _by_sku(text: str) -> dict[str, Sellable]:
    return {item.sku: item for item in msgspec.json.decode(text, type=list[Sellable])}
