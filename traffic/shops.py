"""The fictional shops of the generator: merchants, their products and prices, as values and commands.

Belongs here: data that exists before the first generated order. Does not belong here: orders (`plans.py`,
`journeys.py`).

The catalogs are the same for every seed, so a second run uses the existing shops. Shops differ in features that often
cause accounting errors: tax inside the price or on top, two tax rates in one shop, three currencies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache

import msgspec

from contracts.events.merchant import TaxRate
from contracts.events.product import ProductKind
from contracts.money import micro_per_minor
from oltp.commands.grant_entitlement import GrantMerchantEntitlement
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.revoke_entitlement import RevokeMerchantEntitlement
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.domain.pricing import SHIPPING_TAX_CATEGORY
from traffic.calibration import REAL, draw, product_weights
from traffic.command_chains import KeyedCommand
from traffic.content_ids import CATALOG_TIME, content_id

LOCATION = "main"
STANDARD, REDUCED = "standard", "reduced"
CATALOG_SEED = 352
PRICE_UP_TO_PERMYRIAD = 9_900
"""We cut off the highest hundredth of real prices, because those are one-off charges, not products."""
REDUCED_RATE_EVERY = 5
"""In shops with a reduced rate, it applies to every fifth product."""


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """One merchant; `rates_ppm`: (tax category, rate); `products`: their number, without the gift wrapping."""

    merchant_id: str
    name: str
    currency: str
    is_tax_inclusive: bool
    jurisdiction: str
    rates_ppm: tuple[tuple[str, int], ...]
    shipping_fee_minor: int
    free_shipping_from_minor: int | None
    products: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One product with its one variant."""

    sku: str
    title: str
    kind: ProductKind
    tax_category: str
    unit_price_minor: int


def _shop(merchant_id: str, name: str, products: int, **changes: object) -> Shop:
    values: dict[str, object] = {
        "currency": "GBP",
        "is_tax_inclusive": True,
        "jurisdiction": "GB",
        "rates_ppm": ((STANDARD, 200_000),),
        "shipping_fee_minor": 395,
        "free_shipping_from_minor": 5_000,
    }
    return msgspec.convert(
        {**values, **changes, "merchant_id": merchant_id, "name": name, "products": products}, type=Shop
    )


SHOPS = (
    _shop("harbour-gifts", "Harbour Gifts", 200),
    _shop(
        "liberty-supply",
        "Liberty Supply Co.",
        40,
        currency="USD",
        is_tax_inclusive=False,
        jurisdiction="US-NY",
        rates_ppm=((STANDARD, 88_750),),
        shipping_fee_minor=599,
        free_shipping_from_minor=7_500,
    ),
    _shop(
        "atelier-lyon",
        "Atelier Lyon",
        40,
        currency="EUR",
        jurisdiction="FR",
        rates_ppm=((STANDARD, 200_000), (REDUCED, 55_000)),
        shipping_fee_minor=490,
    ),
    _shop("oak-and-linen", "Oak & Linen", 30, rates_ppm=((STANDARD, 200_000), (REDUCED, 50_000))),
    _shop("tin-drum-toys", "Tin Drum Toys", 20, free_shipping_from_minor=None),
    _shop("papierhaus", "Papierhaus", 20, currency="EUR", jurisdiction="DE", rates_ppm=((STANDARD, 190_000),)),
    _shop("candle-yard", "Candle Yard", 15, shipping_fee_minor=0),
    _shop("north-kitchen", "North Kitchen", 15, is_tax_inclusive=False),
)
"""Largest first; their shares of the orders equal those of the largest merchants in the real data."""

SHOP_SHARES = REAL.merchant_shares[: len(SHOPS)]

_FORMS = ("LANTERN", "MUG", "T-LIGHT HOLDER", "CUSHION", "TIN", "BUNTING", "CLOCK", "APRON", "BOWL", "FRAME")
_STYLES = ("RED RETROSPOT", "VINTAGE", "IVORY", "BLUE POLKADOT", "WOODEN", "HEART OF WICKER", "PINK", "UNION JACK")


def shop_of(merchant_id: str) -> Shop:
    """Return the shop with this merchant id."""
    return next(shop for shop in SHOPS if shop.merchant_id == merchant_id)


@cache
def catalog(shop: Shop) -> tuple[Item, ...]:
    """Return the shop's products, best-selling first, and last its gift wrapping (a service)."""
    rng = random.Random(f"{CATALOG_SEED}/{shop.merchant_id}")
    items = [
        Item(
            sku=f"{10_000 + number}",
            title=f"{rng.choice(_STYLES)} {rng.choice(_FORMS)}",
            kind=ProductKind.GOODS,
            tax_category=REDUCED if REDUCED in dict(shop.rates_ppm) and number % REDUCED_RATE_EVERY == 0 else STANDARD,
            unit_price_minor=draw(REAL.unit_price_minor, rng, up_to=PRICE_UP_TO_PERMYRIAD),
        )
        for number in range(1, shop.products + 1)
    ]
    wrapping = Item(
        sku="WRAP", title="GIFT WRAPPING", kind=ProductKind.SERVICE, tax_category=STANDARD, unit_price_minor=250
    )
    return (*items, wrapping)


@cache
def weights(shop: Shop) -> tuple[float, ...]:
    """Return the relative sales frequency of each item of the catalog."""
    return (*product_weights(shop.products), product_weights(shop.products)[-1])


def variant_id(merchant_id: str, sku: str) -> str:
    """Return the id of the variant with this SKU."""
    return str(content_id(CATALOG_TIME, "generator", merchant_id, "variant", sku))


def product_id(merchant_id: str, sku: str) -> str:
    """Return the id of the product whose first variant has this SKU."""
    return str(content_id(CATALOG_TIME, "generator", merchant_id, "product", sku))


def register_shop(shop: Shop) -> KeyedCommand:
    """Return the shop's registration."""
    rates = dict(shop.rates_ppm)
    rates[SHIPPING_TAX_CATEGORY] = rates[STANDARD]
    return KeyedCommand(
        key="generator/register",
        command=RegisterMerchant(
            merchant_id=shop.merchant_id,
            name=shop.name,
            currency=shop.currency,
            is_tax_inclusive=shop.is_tax_inclusive,
            jurisdiction=shop.jurisdiction,
            shipping_fee_minor=shop.shipping_fee_minor,
            free_shipping_from_minor=shop.free_shipping_from_minor,
            tax_rates=[
                TaxRate(jurisdiction=shop.jurisdiction, tax_category=category, rate_ppm=rate)
                for category, rate in sorted(rates.items())
            ],
        ),
    )


def create_products(shop: Shop) -> Iterator[KeyedCommand]:
    """Yield the products of a new shop, with their prices."""
    for item in catalog(shop):
        yield KeyedCommand(key=f"generator/product/{item.sku}", command=_upsert(shop, item))


def entitle_shop(shop: Shop) -> list[KeyedCommand]:
    """Return the entitlement commands of a new shop: a plan, and a trial that is withdrawn again."""
    merchant_id, feature = shop.merchant_id, "storefront"
    plan = GrantMerchantEntitlement(merchant_id=merchant_id, feature=feature, grantor="plan:standard", level=1)
    trial = GrantMerchantEntitlement(merchant_id=merchant_id, feature=feature, grantor="trial", level=3)
    withdrawal = RevokeMerchantEntitlement(merchant_id=merchant_id, feature=feature, grantor="trial")
    return [
        KeyedCommand(key="generator/grant/plan", command=plan),
        KeyedCommand(key="generator/grant/trial", command=trial),
        KeyedCommand(key="generator/revoke/trial", command=withdrawal),
    ]


def receive(merchant_id: str, units: Mapping[str, int], key: str) -> KeyedCommand:
    """Return the delivery of `units` by SKU, all > 0."""
    lines = [StockInput(variant_id=variant_id(merchant_id, sku), quantity=units[sku]) for sku in sorted(units)]
    command = ReceiveStock(merchant_id=merchant_id, location_id=LOCATION, lines=lines, reason="delivery")
    return KeyedCommand(key=key, command=command)


def _upsert(shop: Shop, item: Item) -> UpsertProduct:
    price_micro = item.unit_price_minor * micro_per_minor(shop.currency)
    return UpsertProduct(
        merchant_id=shop.merchant_id,
        product_id=product_id(shop.merchant_id, item.sku),
        title=item.title,
        kind=item.kind,
        tax_category=item.tax_category,
        variants=[
            VariantInput(
                variant_id=variant_id(shop.merchant_id, item.sku),
                sku=item.sku,
                title=item.title,
                unit_price_micro=price_micro,
            )
        ],
    )
