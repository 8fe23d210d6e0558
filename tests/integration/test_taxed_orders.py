"""Discounts and taxes with known right values, from the command over every copy to the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.events.adjustment import AdjustmentKind
from contracts.events.merchant import TaxRate
from contracts.events.order import DEPOSIT_TAX_CATEGORY
from contracts.events.product import ProductKind
from contracts.ids import uuid7
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command, execute
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from reconcile.comparison_run import run_pairs
from stack.composition.comparison import build_reconcile_context
from tests.conftest import Cluster
from tests.integration.finance_office import Office
from tests.integration.imported_orders import cash_of_shops, import_shops
from tests.integration.reconcile_world import carrying
from tests.integration.shop import adjustment

pytestmark = pytest.mark.timeout(1200)


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


def place(
    office: Office,
    merchant_id: str,
    *skus: str,
    discounts: list[DiscountInput] | None = None,
    number: str = "1",
    is_paid: bool = True,
) -> tuple[Any, Any]:
    order = do(
        office,
        PlaceOrder(
            merchant_id=merchant_id,
            order_number=number,
            customer_id=None,
            location_id="main",
            lines=[OrderLineInput(sku=sku, quantity=1) for sku in skus],
            discounts=discounts or [],
        ),
    )
    if not is_paid:
        return order, None
    payment = do(office, AuthorizePayment(merchant_id=merchant_id, order_id=order.order_id))
    return order, do(office, CapturePayment(merchant_id=merchant_id, payment_id=payment.payment_id))


def tax_report(office: Office, merchant_id: str) -> list[tuple[Any, ...]]:
    names = ("jurisdiction", "tax_category", "charged_taxable_minor", "charged_tax_minor", "refunded_tax_minor")
    rows = office.report("tax")["rows"]
    return sorted(tuple(row[name] for name in names) for row in rows if row["merchant_id"] == merchant_id)


def give_back(office: Office, merchant_id: str, order: Any, payment: Any, amount_minor: int | None, units: int) -> Any:
    line = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=units, amount_minor=amount_minor)
    refund = do(
        office,
        RequestRefund(merchant_id=merchant_id, payment_id=payment.payment_id, lines=[line], reason="returned"),
    )
    return do(office, CompleteRefund(merchant_id=merchant_id, refund_id=refund.refund_id))


def sell_toys(office: Office) -> None:
    """5.00 off a toy at 20 % beside a book at 0 %."""
    rates = [("standard", 200_000), ("books", 0)]
    open_for(
        office, "toys", "GBP", "GB",
        [TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=rate) for name, rate in rates],
    )  # fmt: skip
    offer(office, "toys", "TOY", 10_000_000, "standard")
    offer(office, "toys", "BOOK", 10_000_000, "books")
    discount = DiscountInput(code="TOYS", amount_minor=500, line_number=1)
    order, _ = place(office, "toys", "TOY", "BOOK", discounts=[discount])
    assert (order.tax_minor, order.total_minor, order.discounts[0].line_number) == (100, 1600, 1)


def sell_in_quebec(office: Office) -> Any:
    """86.97 with taxes of 5 % and 9.975 %: one is kept, one given back in parts, one cancelled, one credited."""
    taxes = [("CA-GST", 50_000), ("CA-QST", 99_750)]
    open_for(
        office, "erables", "CAD", "CA-QC",
        [TaxRate(jurisdiction="CA-QC", tax_category="standard", rate_ppm=ppm, owed_to=name) for name, ppm in taxes],
    )  # fmt: skip
    offer(office, "erables", "SYRUP", 86_970_000, "standard")
    kept, _ = place(office, "erables", "SYRUP")
    assert [(tax.jurisdiction, tax.tax_minor) for tax in kept.line_taxes] == [("CA-GST", 435), ("CA-QST", 868)]
    assert (kept.lines_minor, kept.tax_minor, kept.total_minor) == (8_697, 1_303, 10_000)

    returned, payment = place(office, "erables", "SYRUP", number="2")
    half = give_back(office, "erables", returned, payment, 5_000, 0)
    rest = give_back(office, "erables", returned, payment, None, 1)
    parts = [[tax.tax_minor for tax in refund.line_taxes] for refund in (half, rest)]
    assert [sum(part) for part in parts] == [half.tax_minor, rest.tax_minor]
    assert [sum(each) for each in zip(*parts, strict=True)] == [435, 868]

    cancelled, _ = place(office, "erables", "SYRUP", number="3", is_paid=False)
    after = do(office, CancelOrder(merchant_id="erables", order_id=cancelled.order_id))
    assert [tax.cancelled_tax_minor for tax in after.line_taxes] == [435, 868]

    returned = AdjustmentKind.UNREFERENCED_RETURN
    credit = adjustment("erables", -100_000_000, kind=returned, currency="CAD", quantity=-1, tax_category="standard")
    assert [tax.tax_minor for tax in do(office, credit).taxes] == [-435, -867]
    return kept


def sell_gift_cards(office: Office) -> None:
    """Four cards of 30.00, one beside 10.00 of tea: one is given back and one cancelled; a card is no sale."""
    rates = [("standard", 200_000), (DEPOSIT_TAX_CATEGORY, 0)]
    open_for(
        office, "cards", "GBP", "GB",
        [TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=rate) for name, rate in rates],
    )  # fmt: skip
    offer(office, "cards", "TEA", 10_000_000, "standard")
    offer(office, "cards", "CARD", 30_000_000, DEPOSIT_TAX_CATEGORY)
    place(office, "cards", "CARD", "TEA")
    place(office, "cards", "CARD", number="2")
    returned, payment = place(office, "cards", "CARD", "TEA", number="3")
    refund = give_back(office, "cards", returned, payment, None, 1)
    assert (refund.amount_minor, refund.tax_minor) == (3_000, 0)
    cancelled, _ = place(office, "cards", "CARD", number="4", is_paid=False)
    do(office, CancelOrder(merchant_id="cards", order_id=cancelled.order_id))


def accounts_of(office: Office, *merchants: str) -> dict[str, int]:
    """Return the balances of merchants in micro-units, by account; debits are positive."""
    balances: Counter[str] = Counter()
    for row in office.report("trial-balance")["rows"]:
        if row["merchant_id"] in merchants:
            balances[row["account"]] += row["balance_micro"]
    return dict(balances)


def verdicts(office: Office, *names: str) -> dict[str, set[tuple[str, ...]]]:
    """Return what a comparison of these pairs names: entity and key."""
    context = carrying(build_reconcile_context(office.settings, lag_seconds_max=10), office.settings, ("lake",))
    return {
        result.pair: {(item.entity, *(part or "" for part in item.key)) for item in result.sample}
        for result in run_pairs(context, list(names), ["pod1"])
    }


@pytest.mark.in_turn("right values", seconds=44)
def test_right_values_from_the_command_to_the_report(office: Office, postgres: Cluster, tmp_path: Path) -> None:
    sell_toys(office)
    kept = sell_in_quebec(office)
    sell_gift_cards(office)
    imported = import_shops(office, tmp_path)

    assert office.reconcile()
    assert cash_of_shops(office) == imported
    assert tax_report(office, "toys") == [("GB", "books", 1000, 0, 0), ("GB", "standard", 500, 100, 0)]
    (day,) = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "toys"]
    assert (day["discount_minor"], day["sales_micro"], day["tax_minor"]) == (500, 20_000_000, 100)
    # Three were charged, one of them cancelled, one given back, and a credit note besides.
    assert tax_report(office, "erables") == [
        ("CA-GST", "standard", 3 * 8_697, 3 * 435, 435 + 435),
        ("CA-QST", "standard", 3 * 8_697, 3 * 868, 868 + 867),
    ]
    (day,) = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "erables"]
    assert day["tax_minor"] == 3 * 1_303 - 1_303 - 1_303 - 1_302

    held = {"sales": -20_000_000, "customer_deposits": -60_000_000, "tax_payable": -4_000_000}
    assert accounts_of(office, "cards") == {
        **held,
        "cash": 84_000_000,
        "clearing": 0,
        "merchant_share": 84_000_000,
        "merchant_payable": -84_000_000,
    }
    (day,) = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "cards"]
    assert (day["placed_minor"], day["sales_micro"], day["net_minor"]) == (14_400, 20_000_000, 8_400)

    line_id = kept.lines[0].order_line_id
    database = psycopg.conninfo.conninfo_to_dict(office.settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update oltp.order_line_taxes set tax_minor = tax_minor "
            "+ case jurisdiction when 'CA-GST' then 1 else -1 end where order_line_id = %s",
            (line_id,),
        )
    found = verdicts(office, "oltp_identities", "oltp_lake.order")
    assert found["oltp_identities"] == {("order.each_tax_minor", kept.order_id)}
    assert found["oltp_lake.order"] == {
        ("order_line_taxes", kept.order_id, line_id, name) for name in ("CA-GST", "CA-QST")
    }
