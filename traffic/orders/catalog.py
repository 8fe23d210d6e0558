"""Merchants, tax categories, products and stock that a file's orders need before they can be placed.

Belongs here: the sum of these needs, and the commands that create the missing parts (pure). Does not belong here:
reading what exists (`books.py`).

A file contains no deliveries, so the units that its orders need are received first, in one delivery per merchant. An
existing SKU of the merchant stays unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import LineKind
from contracts.events.product import ProductKind
from contracts.ids import uuid7
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from traffic.command_chains import KeyedCommand
from traffic.orders.amounts import category_of, micro_of
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import (
    EXTRA_CATEGORIES,
    LOCATION,
    ROUNDING_SKU,
    UNALLOCATED_SKU,
    product_id,
    variant_id,
)
from traffic.orders.rehearsal import Plan

RECEIPT_LINES_MAX = 500
_TITLES = {UNALLOCATED_SKU: "Unallocated cash", ROUNDING_SKU: "Rounding of stated totals"}

Place = tuple[str, str]
"""Merchant and SKU."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """The properties of a product that an order names."""

    title: str
    kind: ProductKind
    tax_category: str
    price_micro: int


@dataclass(kw_only=True)
class Demand:
    """The needs of all orders of a file."""

    merchants: dict[str, MerchantState] = field(default_factory=dict)
    """Merchants by id, as registered, or as they will be registered at their first order."""
    registered: dict[str, MerchantState] = field(default_factory=dict)
    """Merchants by id that were registered before."""
    kinds: dict[Place, ProductKind] = field(default_factory=dict)
    """The product kind of every SKU, from the pods or from its first order."""
    rates: dict[str, dict[tuple[str, str, str], TaxRate]] = field(default_factory=dict)
    products: dict[Place, Needed] = field(default_factory=dict)
    units: dict[Place, int] = field(default_factory=dict)
    """Units of goods that orders which are not placed yet will take."""
    first_at: dict[str, datetime] = field(default_factory=dict)

    def check(self, plan: Plan) -> None:
        """Raise RejectedError when the registered merchant or an SKU differs from the order."""
        merchant_id = plan.record.merchant_id
        own: dict[str, ProductKind] = {}
        for sku, needed in products_of(plan):
            known = self.kinds.get((merchant_id, sku)) or own.setdefault(sku, needed.kind)
            if known != needed.kind:
                raise RejectedError("kind_of_another_product", f"SKU {sku} is {needed.kind} here and {known} before")
        declared = {_rate_key(rate): rate for rate in self.merchants[merchant_id].tax_rates}
        for rate in plan.rates:
            same = [key for key in declared if key[:2] == _rate_key(rate)[:2]]
            if same and declared.get(_rate_key(rate)) != rate:
                raise RejectedError(
                    "tax_category_of_another_rate",
                    f"merchant {merchant_id} has a tax category {rate.tax_category!r} with another rate",
                )

    def add(self, plan: Plan, *, is_placed: bool) -> None:
        """Add the needs of an order; if `is_placed`, it has already taken its stock."""
        merchant_id = plan.record.merchant_id
        first_at = self.first_at.get(merchant_id, plan.record.placed_at)
        self.first_at[merchant_id] = min(first_at, plan.record.placed_at)
        self.rates.setdefault(merchant_id, {}).update({_rate_key(rate): rate for rate in plan.rates})
        for sku, needed in products_of(plan):
            self.products.setdefault((merchant_id, sku), needed)
            self.kinds.setdefault((merchant_id, sku), needed.kind)
        if is_placed:
            return
        for line in plan.record.lines:
            if line.kind is LineKind.GOODS:
                place = (merchant_id, line.sku)
                self.units[place] = self.units.get(place, 0) + line.quantity


def products_of(plan: Plan) -> Iterator[tuple[str, Needed]]:
    """Yield the SKUs of an order's lines, with their properties in the order."""
    for line in plan.record.lines:
        if line.kind is not LineKind.SHIPPING:
            yield (
                line.sku,
                Needed(
                    title=line.title or line.sku,
                    kind=ProductKind.GOODS if line.kind is LineKind.GOODS else ProductKind.SERVICE,
                    tax_category=category_of(line.taxes),
                    price_micro=micro_of(line.unit_price, "unit_price"),
                ),
            )
    for sku in plan.extras:
        yield (
            sku,
            Needed(title=_TITLES[sku], kind=ProductKind.SERVICE, tax_category=EXTRA_CATEGORIES[sku], price_micro=0),
        )


def declare_merchants(demand: Demand) -> Iterator[KeyedCommand]:
    """Yield the registrations of new merchants, and the configurations that add missing tax categories."""
    for merchant_id, rates in sorted(demand.rates.items()):
        merchant, at = demand.merchants[merchant_id], demand.first_at[merchant_id]
        if merchant_id not in demand.registered:
            command = RegisterMerchant(
                merchant_id=merchant_id,
                name=merchant.name,
                currency=merchant.currency,
                is_tax_inclusive=merchant.is_tax_inclusive,
                jurisdiction=merchant.jurisdiction,
                tax_rates=list(rates.values()),
            )
            yield KeyedCommand(key=f"orders/register/{uuid7()}", command=command, occurred_at=at)
            continue
        declared = {_rate_key(rate): rate for rate in merchant.tax_rates}
        if rates.keys() - declared.keys():
            both = ConfigureMerchant(merchant_id=merchant_id, tax_rates=list({**declared, **rates}.values()))
            yield KeyedCommand(key=f"orders/rates/{uuid7()}", command=both, occurred_at=at)


def upsert_products(demand: Demand, existing: Container[Place]) -> Iterator[KeyedCommand]:
    """Yield the commands that create products which are not in `existing`."""
    for (merchant_id, sku), needed in demand.products.items():
        if (merchant_id, sku) in existing:
            continue
        variant = VariantInput(
            variant_id=variant_id(merchant_id, sku), sku=sku, title=needed.title, unit_price_micro=needed.price_micro
        )
        command = UpsertProduct(
            merchant_id=merchant_id,
            product_id=product_id(merchant_id, sku),
            title=needed.title,
            kind=needed.kind,
            tax_category=needed.tax_category,
            variants=[variant],
        )
        name = hashlib.sha256(sku.encode()).hexdigest()[:32]
        yield KeyedCommand(key=f"orders/product/{name}", command=command, occurred_at=demand.first_at[merchant_id])


def receive_stock(
    demand: Demand, available: Mapping[Place, int], variants: Mapping[Place, str], run_id: str
) -> Iterator[KeyedCommand]:
    """Yield the deliveries of missing units; `run_id` makes their idempotency keys unique to this run."""
    short: dict[str, list[StockInput]] = {}
    for place, units in sorted(demand.units.items()):
        missing = units - available.get(place, 0)
        if missing > 0 and place in variants:
            short.setdefault(place[0], []).append(StockInput(variant_id=variants[place], quantity=missing))
    for merchant_id, lines in short.items():
        for start in range(0, len(lines), RECEIPT_LINES_MAX):
            command = ReceiveStock(
                merchant_id=merchant_id,
                location_id=LOCATION,
                lines=lines[start : start + RECEIPT_LINES_MAX],
                reason="opening stock of an import",
            )
            key = f"orders/receive/{run_id}/{start}"
            yield KeyedCommand(key=key, command=command, occurred_at=demand.first_at[merchant_id])


def _rate_key(rate: TaxRate) -> tuple[str, str, str]:
    return rate.jurisdiction, rate.tax_category, rate.owed_to
