"""Merchants, products and opening stock that an import of Online Retail needs before its first order.

Belongs here: the commands that create what is missing (pure). Does not belong here: reading what exists (`books.py`).

Each country is a merchant. Prices contain the value added tax of the United Kingdom at the rate of the invoice's day,
for the home market and for invoices without a country (an export without proof is taxed). Exports are zero-rated. The
files contain no deliveries, so the units that the invoices need are received first, in one opening delivery per
merchant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from contracts.events.merchant import TaxRate
from contracts.events.order import LineKind
from contracts.events.product import ProductKind
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.domain.pricing import SHIPPING_TAX_CATEGORY
from traffic.command_chains import KeyedCommand
from traffic.retail.invoice_commands import CURRENCY, LOCATION, product_id, variant_id
from traffic.retail.invoices import MerchantSurvey, VariantSurvey, products_of

JURISDICTION = "GB"
HOME_MERCHANTS = frozenset({"united-kingdom", "unspecified"})
STANDARD, ZERO_RATED = "standard", "zero-rated"
UK_VAT_PPM = (
    (datetime(1970, 1, 1, tzinfo=UTC), 175_000),
    (datetime(2008, 12, 1, tzinfo=UTC), 150_000),
    (datetime(2010, 1, 1, tzinfo=UTC), 175_000),
    (datetime(2011, 1, 4, tzinfo=UTC), 200_000),
)
"""Standard rate of value added tax in the United Kingdom, by the day from which it applies."""
RECEIPT_LINES_MAX = 500


def vat_ppm(at: datetime) -> int:
    """Return the standard rate at a given time, in parts per million."""
    return [rate for since, rate in UK_VAT_PPM if since <= at][-1]


def tax_category(merchant_id: str) -> str:
    """Return the tax category of all goods and services of the merchant."""
    return STANDARD if merchant_id in HOME_MERCHANTS else ZERO_RATED


def tax_rates(merchant_id: str, at: datetime) -> list[TaxRate]:
    """Return the rates that a merchant declares at a given time; carriage is taxed like the goods."""
    category = tax_category(merchant_id)
    rate_ppm = vat_ppm(at) if category == STANDARD else 0
    return [
        TaxRate(jurisdiction=JURISDICTION, tax_category=name, rate_ppm=rate_ppm)
        for name in sorted((category, SHIPPING_TAX_CATEGORY))
    ]


def register_merchant(merchant_id: str, survey: MerchantSurvey) -> KeyedCommand:
    """Return the registration of a merchant at its first invoice; no shipping fee, because invoices have postage."""
    return KeyedCommand(
        key="online-retail/register",
        command=RegisterMerchant(
            merchant_id=merchant_id,
            name=survey.name,
            currency=CURRENCY,
            is_tax_inclusive=True,
            jurisdiction=JURISDICTION,
            tax_rates=tax_rates(merchant_id, survey.first_at),
        ),
        occurred_at=survey.first_at,
    )


def upsert_products(
    merchant_id: str, survey: MerchantSurvey, existing: Mapping[tuple[str, str], str]
) -> Iterator[KeyedCommand]:
    """Yield the commands that create missing variants; `existing` as returned by `traffic.books.variants`."""
    for code, spellings in products_of(survey).items():
        missing = {sku: variant for sku, variant in spellings.items() if (merchant_id, sku) not in existing}
        if missing:
            names = hashlib.sha256("\x1f".join(missing).encode()).hexdigest()[:16]
            yield KeyedCommand(
                key=f"online-retail/product/{code}/{names}",
                command=_upsert(merchant_id, code, next(iter(spellings.values())), missing),
                occurred_at=survey.first_at,
            )


def receive_stock(
    merchant_id: str, units: Mapping[str, int], received_at: datetime, run_id: str
) -> Iterator[KeyedCommand]:
    """Yield the deliveries of `units` by stock code, all > 0; `run_id` makes their keys unique to this run."""
    codes = sorted(units)
    for start in range(0, len(codes), RECEIPT_LINES_MAX):
        part = codes[start : start + RECEIPT_LINES_MAX]
        lines = [StockInput(variant_id=variant_id(merchant_id, code), quantity=units[code]) for code in part]
        yield KeyedCommand(
            key=f"online-retail/receive/{run_id}/{start}",
            command=ReceiveStock(
                merchant_id=merchant_id, location_id=LOCATION, lines=lines, reason="opening stock of an import"
            ),
            occurred_at=received_at,
        )


def _upsert(merchant_id: str, code: str, first: VariantSurvey, variants: Mapping[str, VariantSurvey]) -> UpsertProduct:
    return UpsertProduct(
        merchant_id=merchant_id,
        product_id=product_id(merchant_id, code),
        title=first.title or code,
        kind=ProductKind.SERVICE if first.kind is LineKind.SERVICE else ProductKind.GOODS,
        tax_category=tax_category(merchant_id),
        variants=[
            VariantInput(
                variant_id=variant_id(merchant_id, sku),
                sku=sku,
                title=variant.title or sku,
                unit_price_micro=variant.unit_price_micro,
            )
            for sku, variant in variants.items()
        ],
    )
