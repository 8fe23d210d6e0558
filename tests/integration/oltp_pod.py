"""A pod with one merchant and a small catalog, for the tests of commands."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.product import ProductKind, ProductState
from oltp.commands.execute import CommandPod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MERCHANT = "acme"
RATES = [
    TaxRate(jurisdiction="GB", tax_category="shipping", rate_ppm=200_000),
    TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000),
]


def key() -> str:
    """Return an idempotency key that was never used."""
    return str(uuid.uuid4())


def register(pod: CommandPod, merchant_id: str = MERCHANT) -> MerchantState:
    command = RegisterMerchant(
        merchant_id=merchant_id,
        name="Acme",
        currency="GBP",
        is_tax_inclusive=True,
        jurisdiction="GB",
        shipping_fee_minor=495,
        tax_rates=RATES,
    )
    return execute(pod, command, idempotency_key=key())


def add_product(pod: CommandPod, *skus: str, merchant_id: str = MERCHANT, price_micro: int = 2_500_000) -> ProductState:
    variants = [
        VariantInput(variant_id=str(uuid.uuid4()), sku=sku, title=sku.title(), unit_price_micro=price_micro)
        for sku in skus
    ]
    command = UpsertProduct(
        merchant_id=merchant_id,
        product_id=str(uuid.uuid4()),
        title="Product",
        kind=ProductKind.GOODS,
        variants=variants,
    )
    return execute(pod, command, idempotency_key=key())


def receive(pod: CommandPod, quantity: int, *variant_ids: str, merchant_id: str = MERCHANT) -> None:
    lines = [StockInput(variant_id=variant_id, quantity=quantity) for variant_id in variant_ids]
    command = ReceiveStock(merchant_id=merchant_id, location_id="main", lines=lines, reason="delivery")
    execute(pod, command, idempotency_key=key())


def stocked_variants(pod: CommandPod, *skus: str, quantity: int = 10) -> list[str]:
    """Register the merchant, add a product with these variants, receive stock; return variant ids in SKU order."""
    register(pod)
    product = add_product(pod, *sorted(skus))
    variant_ids = [variant.variant_id for variant in product.variants]
    receive(pod, quantity, *variant_ids)
    return variant_ids
