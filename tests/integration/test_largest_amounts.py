"""The largest amounts that commands accept, many of them: no store after OLTP overflows, and every total is exact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from contracts.errors import InputError
from contracts.events.merchant import TaxRate
from contracts.events.order import OrderState
from contracts.events.product import ProductKind
from contracts.limits import AMOUNT_MICRO_MAX
from contracts.money import micro_per_minor
from contracts.settings import Settings
from contracts.verdicts import Verdict
from derived.lake_connection import open_lake
from derived.read_models import migrate as migrate_read_models
from derived.reports import REPORTS, read_report
from derived.webhooks.schema import migrate_webhooks
from finance.presentation import as_csv
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.place_order import OrderLineInput, PlaceOrder, PriceOverride
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from reconcile.comparison_run import run_comparison
from reconcile.figures import total_figures
from stack.composition.comparison import build_reconcile_context
from stack.composition.projections import PROJECTIONS
from tests.integration.reconcile_world import carrying, migrate_lake_of
from tests.integration.shop import adjustment

ORDERS = 12
"""So many orders of the largest amount do not fit 64 bits any more."""
COPIES = PROJECTIONS
CURRENCIES = ("GBP", "JPY", "KWD", "CLF", "VND")
"""Of 0 to 4 decimals."""


@dataclass(kw_only=True)
class Merchant:
    """A merchant of one currency whose only product is a service, at the largest price there is."""

    pod: CommandPod
    currency: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def merchant_id(self) -> str:
        return f"largest-{self.currency.lower()}"

    @property
    def most_minor(self) -> int:
        return AMOUNT_MICRO_MAX // micro_per_minor(self.currency)

    def do(self, command: Any) -> Any:
        return execute(self.pod, command, idempotency_key=f"{type(command).__name__}-{self.pod.new_uuid()}")

    def open(self) -> None:
        rates = [
            TaxRate(jurisdiction="GB", tax_category=category, rate_ppm=rate)
            for category, rate in (("standard", 200_000), ("shipping", 0))
        ]
        self.do(
            RegisterMerchant(
                merchant_id=self.merchant_id,
                name="The largest",
                currency=self.currency,
                is_tax_inclusive=True,
                jurisdiction="GB",
                tax_rates=rates,
            )
        )
        variant = VariantInput(
            variant_id=str(self.pod.new_uuid()), sku="ALL", title="All", unit_price_micro=AMOUNT_MICRO_MAX
        )
        product = str(self.pod.new_uuid())
        self.do(
            UpsertProduct(
                merchant_id=self.merchant_id,
                product_id=product,
                title="All",
                kind=ProductKind.SERVICE,
                variants=[variant],
            )
        )

    def place(self, *lines: OrderLineInput) -> OrderState:
        order: OrderState = self.do(
            PlaceOrder(
                merchant_id=self.merchant_id,
                order_number=f"L{next(self.numbers)}",
                customer_id="ada",
                location_id="main",
                lines=list(lines),
            )
        )
        return order

    def trade(self) -> None:
        """Sell the most there is, often: paid, refunded, cancelled, and adjusted by as much."""
        orders = [self.place(OrderLineInput(sku="ALL", quantity=1)) for _ in range(ORDERS)]
        assert {order.total_minor for order in orders} == {self.most_minor}
        for order in orders[1:]:
            payment = self.do(AuthorizePayment(merchant_id=self.merchant_id, order_id=order.order_id))
            self.do(CapturePayment(merchant_id=self.merchant_id, payment_id=payment.payment_id))
            line = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=1)
            request = RequestRefund(
                merchant_id=self.merchant_id, payment_id=payment.payment_id, lines=[line], reason="too much"
            )
            if order is not orders[1]:
                refund = self.do(request)
                self.do(CompleteRefund(merchant_id=self.merchant_id, refund_id=refund.refund_id))
        self.do(CancelOrder(merchant_id=self.merchant_id, order_id=orders[0].order_id))
        for _ in range(ORDERS):
            self.adjust(-AMOUNT_MICRO_MAX)

    def adjust(self, amount_micro: int) -> None:
        self.do(adjustment(self.merchant_id, amount_micro, currency=self.currency))


@pytest.fixture
def merchants(settings: Settings) -> Iterator[list[Merchant]]:
    migrate_lake_of(settings)
    migrate_read_models(settings.read_models_dsn)
    migrate_webhooks(settings.control_dsn)
    with build_command_pod(settings.pods[0]) as pod:
        opened = [Merchant(pod=pod, currency=currency) for currency in CURRENCIES]
        for merchant in opened:
            merchant.open()
        yield opened


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_largest_amounts_go_all_the_way_to_the_reports(merchants: list[Merchant], settings: Settings) -> None:
    for merchant in merchants:
        merchant.trade()
    context = carrying(build_reconcile_context(settings, lag_seconds_max=10), settings, COPIES)
    comparison = run_comparison(context)
    assert [(r.pair, r.pod, r.reason) for r in comparison.results if r.verdict is not Verdict.CONSISTENT] == []
    captured = {
        figure.currency: figure for figure in total_figures(comparison.figures) if figure.name == "captured_minor"
    }
    for merchant in merchants:
        expected = (ORDERS - 1) * merchant.most_minor
        assert (captured[merchant.currency].operational, captured[merchant.currency].finance) == (expected, expected)
    reports = {name: read_report(settings, name) for name in REPORTS}
    for name, report in reports.items():
        assert report.rows and as_csv(report), name
        assert {type(value) for row in report.rows for value in row} & {float} == set(), name
    daily = reports["daily"]
    placed = {row[daily.columns.index("currency")]: row[daily.columns.index("placed_minor")] for row in daily.rows}
    assert placed == {merchant.currency: ORDERS * merchant.most_minor for merchant in merchants}
    with open_lake(settings, read_only=True) as lake:
        (largest,) = lake.execute("select max(abs(amount_micro)) from lake.marts.journal").fetchall()
    assert largest == (AMOUNT_MICRO_MAX,)


def test_an_order_of_more_than_the_largest_amount_is_refused(merchants: list[Merchant]) -> None:
    for merchant in merchants:
        with pytest.raises(InputError, match="an order holds at most"):
            merchant.place(*[OrderLineInput(sku="ALL", quantity=1)] * 10)
        half = PriceOverride(unit_price_micro=AMOUNT_MICRO_MAX // 2 + 10**6, source="test", reason="half")
        with pytest.raises(InputError, match="an order holds at most"):
            merchant.place(*[OrderLineInput(sku="ALL", quantity=1, price_override=half)] * 2)
        with pytest.raises(InputError, match="Line ALL: 2 units"):
            merchant.place(OrderLineInput(sku="ALL", quantity=2))
