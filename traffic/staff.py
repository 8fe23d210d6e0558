"""Tasks of a shop's staff: deliveries, stock counts, prices, catalog, configuration, entitlements.

    for item in StaffSource(rng).task("live/1"): execute(pod, item.command, idempotency_key=item.key)

Belongs here: pure drawing of such tasks as commands. Does not belong here: orders and their events (`plans.py`),
running commands (`live.py`).

After a task its shop can still sell: trials are revoked again, and prices and rates stay near the first values.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from contracts.events.adjustment import AdjustmentKind
from contracts.events.merchant import TaxRate
from contracts.events.stock import StockMovementKind
from contracts.money import micro_per_minor
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import Command
from oltp.commands.grant_entitlement import GrantCustomerEntitlement, GrantMerchantEntitlement
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.revoke_entitlement import RevokeCustomerEntitlement, RevokeMerchantEntitlement
from oltp.commands.set_price import SetPrice
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.commands.upsert_variant import UpsertVariant
from oltp.domain.pricing import SHIPPING_TAX_CATEGORY
from traffic.command_chains import KeyedCommand
from traffic.content_ids import CATALOG_TIME, content_id
from traffic.plans import CUSTOMER_FIRST
from traffic.shops import LOCATION, SHOPS, STANDARD, Item, Shop, catalog, product_id, variant_id

DELIVERED_PRODUCTS = 3
RATE_CHANGE_PPM = 5_000
"""The largest difference of a tax rate from the shop's first rate."""
CUSTOMERS = 100
CLUB = "club"


class StaffSource:
    """Draws tasks from one random source; every kind of task comes once before any kind repeats."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kinds: tuple[Callable[[Shop, Item, str], list[Command[Any]]], ...] = (
            self._delivery,
            self._count,
            self._price,
            self._product,
            self._variant,
            self._configuration,
            self._rates,
            self._merchant_trial,
            self._customer_status,
            self._adjustment,
        )
        self._waiting: list[Callable[[Shop, Item, str], list[Command[Any]]]] = []

    def task(self, name: str) -> list[KeyedCommand]:
        """Return the commands of the next task, to be run in this order; `name` is the unique prefix of their keys."""
        shop = self._rng.choice(SHOPS)
        item = self._rng.choice(catalog(shop)[:-1])
        if not self._waiting:
            self._waiting = self._rng.sample(self._kinds, len(self._kinds))
        commands = self._waiting.pop()(shop, item, name)
        return [KeyedCommand(key=f"{name}/{number}", command=command) for number, command in enumerate(commands)]

    def _delivery(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        items = {item.sku, *(self._rng.choice(catalog(shop)[:-1]).sku for _ in range(DELIVERED_PRODUCTS - 1))}
        lines = [
            StockInput(variant_id=variant_id(shop.merchant_id, sku), quantity=self._rng.randint(1, 200))
            for sku in sorted(items)
        ]
        return [ReceiveStock(merchant_id=shop.merchant_id, location_id=LOCATION, lines=lines, reason=name)]

    def _count(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        """Book a stock count: more units than recorded, and some of them damaged."""
        found = self._rng.randint(2, 9)

        def adjust(quantity: int, kind: StockMovementKind) -> AdjustStock:
            return AdjustStock(
                merchant_id=shop.merchant_id,
                location_id=LOCATION,
                variant_id=variant_id(shop.merchant_id, item.sku),
                quantity=quantity,
                kind=kind,
                reason=f"count {name}",
            )

        return [adjust(found, StockMovementKind.ADJUSTED), adjust(-found // 2, StockMovementKind.WRITTEN_OFF)]

    def _price(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        # The price differs by at most a tenth from the catalog price, so that no discount exceeds its goods.
        minor = item.unit_price_minor * self._rng.randint(90, 110) // 100
        price_micro = minor * micro_per_minor(shop.currency)
        variant = variant_id(shop.merchant_id, item.sku)
        return [SetPrice(merchant_id=shop.merchant_id, variant_id=variant, unit_price_micro=price_micro)]

    def _product(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        """Change a product's title, and add a second variant."""
        second = VariantInput(
            variant_id=str(content_id(CATALOG_TIME, "staff", shop.merchant_id, "variant", item.sku)),
            sku=f"{item.sku}-GIFT",
            title=f"{item.title}, WRAPPED",
            is_active=self._rng.random() < 0.5,
            unit_price_micro=(item.unit_price_minor + 100) * micro_per_minor(shop.currency),
        )
        return [
            UpsertProduct(
                merchant_id=shop.merchant_id,
                product_id=product_id(shop.merchant_id, item.sku),
                title=f"{item.title} {self._rng.randint(1, 99)}",
                kind=item.kind,
                tax_category=item.tax_category,
                variants=[second],
            )
        ]

    def _variant(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        return [
            UpsertVariant(
                merchant_id=shop.merchant_id,
                product_id=product_id(shop.merchant_id, item.sku),
                variant_id=variant_id(shop.merchant_id, item.sku),
                sku=item.sku,
                title=f"{item.title} {self._rng.randint(1, 99)}",
            )
        ]

    def _configuration(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        fee_minor = max(0, shop.shipping_fee_minor + self._rng.randint(-50, 50))
        free_from_minor = self._rng.choice((None, 5_000, 7_500))
        return [
            ConfigureMerchant(
                merchant_id=shop.merchant_id, shipping_fee_minor=fee_minor, free_shipping_from_minor=free_from_minor
            )
        ]

    def _rates(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        """Change the tax rates a little; earlier orders keep their rates."""
        change = self._rng.randrange(-RATE_CHANGE_PPM, RATE_CHANGE_PPM, 500)
        rates = {category: rate + change for category, rate in shop.rates_ppm}
        rates[SHIPPING_TAX_CATEGORY] = rates[STANDARD]
        listed = [
            TaxRate(jurisdiction=shop.jurisdiction, tax_category=category, rate_ppm=rate)
            for category, rate in sorted(rates.items())
        ]
        return [ConfigureMerchant(merchant_id=shop.merchant_id, tax_rates=listed)]

    def _merchant_trial(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        """Grant the shop a higher level of a feature on trial, and revoke it."""
        level, feature = self._rng.randint(1, 3), "analytics"
        return [
            GrantMerchantEntitlement(merchant_id=shop.merchant_id, feature=feature, grantor=name, level=level),
            RevokeMerchantEntitlement(merchant_id=shop.merchant_id, feature=feature, grantor=name),
        ]

    def _customer_status(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        """Make a customer a member of the shop's club; half of them leave again."""
        customer_id = f"{CUSTOMER_FIRST + self._rng.randrange(CUSTOMERS)}"
        joining = GrantCustomerEntitlement(
            merchant_id=shop.merchant_id,
            customer_id=customer_id,
            feature=CLUB,
            grantor=name,
            level=self._rng.randint(1, 3),
        )
        leaving = RevokeCustomerEntitlement(
            merchant_id=shop.merchant_id, customer_id=customer_id, feature=CLUB, grantor=name
        )
        return [joining, leaving] if self._rng.random() < 0.5 else [joining]

    def _adjustment(self, shop: Shop, item: Item, name: str) -> list[Command[Any]]:
        return [
            BookAdjustment(
                merchant_id=shop.merchant_id,
                kind=self._rng.choice((AdjustmentKind.FEE, AdjustmentKind.MANUAL)),
                currency=shop.currency,
                amount_micro=-self._rng.randint(1, 5_000_000),
                quantity=0,
                sku=None,
                customer_id=None,
                external_reference=name,
                reason="charge of the payment provider",
                source=name.partition("/")[0],
            )
        ]
