"""Discounts and taxes with known right values, from the command over every copy to the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.events.merchant import TaxRate
from contracts.events.product import ProductKind
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.execute import Command, execute
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from tests.integration.finance_office import DECEMBER, Office, open_office

pytestmark = [pytest.mark.timeout(1200), pytest.mark.xdist_group("warehouse")]


@pytest.fixture
def office(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for office in open_office(settings, monkeypatch):
        office.at(DECEMBER)
        yield office


def do(office: Office, command: Command[Any]) -> Any:
    return execute(office.shops[0].pod, command, idempotency_key=str(uuid7()))


def open_for(office: Office, merchant_id: str, currency: str, jurisdiction: str, rates: list[TaxRate]) -> None:
    do(
        office,
        RegisterMerchant(
            merchant_id=merchant_id,
            name=merchant_id,
            currency=currency,
            is_tax_inclusive=False,
            jurisdiction=jurisdiction,
            tax_rates=rates,
        ),
    )


def offer(office: Office, merchant_id: str, sku: str, price_micro: int, tax_category: str) -> None:
    variant = VariantInput(variant_id=str(uuid7()), sku=sku, title=sku, unit_price_micro=price_micro)
    do(
        office,
        UpsertProduct(
            merchant_id=merchant_id,
            product_id=str(uuid7()),
            title=sku,
            kind=ProductKind.SERVICE,
            tax_category=tax_category,
            variants=[variant],
        ),
    )


def place(office: Office, merchant_id: str, *skus: str, discounts: list[DiscountInput] | None = None) -> Any:
    order = do(
        office,
        PlaceOrder(
            merchant_id=merchant_id,
            order_number="1",
            customer_id=None,
            location_id="main",
            lines=[OrderLineInput(sku=sku, quantity=1) for sku in skus],
            discounts=discounts or [],
        ),
    )
    payment = do(office, AuthorizePayment(merchant_id=merchant_id, order_id=order.order_id))
    do(office, CapturePayment(merchant_id=merchant_id, payment_id=payment.payment_id))
    return order


def tax_report(office: Office, merchant_id: str) -> list[tuple[Any, ...]]:
    names = ("jurisdiction", "tax_category", "charged_taxable_minor", "charged_tax_minor", "refunded_tax_minor")
    rows = office.report("tax")["rows"]
    return sorted(tuple(row[name] for name in names) for row in rows if row["merchant_id"] == merchant_id)


def test_right_values_from_the_command_to_the_report(office: Office) -> None:
    rates = [("standard", 200_000), ("books", 0)]
    open_for(
        office, "toys", "GBP", "GB",
        [TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=rate) for name, rate in rates],
    )  # fmt: skip
    offer(office, "toys", "TOY", 10_000_000, "standard")
    offer(office, "toys", "BOOK", 10_000_000, "books")
    discount = DiscountInput(code="TOYS", amount_minor=500, line_number=1)
    order = place(office, "toys", "TOY", "BOOK", discounts=[discount])
    assert (order.tax_minor, order.total_minor, order.discounts[0].line_number) == (100, 1600, 1)

    assert office.reconcile()
    assert tax_report(office, "toys") == [("GB", "books", 1000, 0, 0), ("GB", "standard", 500, 100, 0)]
    (day,) = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "toys"]
    assert (day["discount_minor"], day["sales_micro"], day["tax_minor"]) == (500, 20_000_000, 100)
