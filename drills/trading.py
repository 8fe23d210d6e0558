"""The drill's own trade next to the load: one merchant per pod, of which every order is known.

Belongs here: commands against OLTP and their answers. Does not belong here: what the answers prove
(`drills/probes.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from contracts.errors import ConflictError, TieoutError
from contracts.events.merchant import TaxRate
from contracts.events.order import LineKind, OrderState
from contracts.events.payment import PaymentState
from contracts.settings import Settings
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command, CommandPod, build_command_pod, execute
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.upsert_product import UpsertProduct, VariantInput

Answer = TypeVar("Answer")

SKU, SCARCE_SKU, LOCATION = "PLENTY", "SCARCE", "main"
STOCK_UNITS, SCARCE_UNITS = 1_000_000, 3
UNITS_ORDERED = 2


@dataclass(frozen=True, kw_only=True)
class Sale:
    """An order that OLTP acknowledged, and its captured payment."""

    pod: str
    order: OrderState
    payment: PaymentState

    @property
    def customer_id(self) -> str:
        """Return the customer's id."""
        return self.order.customer_id or ""

    @property
    def goods_line(self) -> str:
        """Return the id of the line of goods."""
        return next(line.order_line_id for line in self.order.lines if line.kind is LineKind.GOODS)


@dataclass(kw_only=True)
class Trader:
    """Trades in every pod. Use it as a context manager."""

    settings: Settings
    sales: list[Sale] = field(default_factory=list)
    """All sales that were acknowledged since `forget`."""
    _pods: dict[str, CommandPod] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __enter__(self) -> Self:
        """Register the merchants."""
        for pod in self.settings.pods:
            opened = build_command_pod(pod, control_dsn=self.settings.control_dsn, connections_max=2)
            self._pods[pod.pod] = self._open.enter_context(opened)
            self._furnish(pod.pod)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._open.close()

    def forget(self) -> None:
        """Clear the list of sales."""
        self.sales = []

    def sell(self, pod: str) -> Sale:
        """Place, authorize and capture an order."""
        order = self.order(pod, SKU)
        authorize = AuthorizePayment(merchant_id=order.merchant_id, order_id=order.order_id, payment_token="tok_card")
        payment = self.do(pod, authorize)
        payment = self.do(pod, CapturePayment(merchant_id=order.merchant_id, payment_id=payment.payment_id))
        sale = Sale(pod=pod, order=order, payment=payment)
        self.sales.append(sale)
        return sale

    def place_unpaid(self, pod: str) -> OrderState:
        """Place an order without a payment, so that it can be cancelled."""
        return self.order(pod, SKU)

    def order(self, pod: str, sku: str) -> OrderState:
        """Place an order of units of one SKU; ConflictError when it is not for sale."""
        number = next(self._numbers)
        return self.do(
            pod,
            PlaceOrder(
                merchant_id=merchant_of(pod),
                order_number=f"DRILL-{number}",
                customer_id=f"customer-{number}",
                location_id=LOCATION,
                lines=[OrderLineInput(sku=sku, quantity=UNITS_ORDERED)],
                source="drill",
            ),
        )

    def cancel(self, pod: str, order: OrderState) -> OrderState:
        """Cancel an order wholly."""
        return self.do(pod, CancelOrder(merchant_id=order.merchant_id, order_id=order.order_id, reason="drill"))

    def ship(self, pod: str, order: OrderState) -> Any:
        """Ship all open units of an order; ConflictError when no unit is open."""
        return self.do(pod, FulfillOrder(merchant_id=order.merchant_id, order_id=order.order_id, location_id=LOCATION))

    def refund(self, sale: Sale, quantity: int = UNITS_ORDERED) -> Any:
        """Refund units of a sale; OverRefundError when they were refunded before."""
        request = RequestRefund(
            merchant_id=sale.order.merchant_id,
            payment_id=sale.payment.payment_id,
            lines=[RefundLineInput(order_line_id=sale.goods_line, quantity=quantity)],
            reason="drill",
        )
        refund = self.do(sale.pod, request)
        return self.do(sale.pod, CompleteRefund(merchant_id=sale.order.merchant_id, refund_id=refund.refund_id))

    def oversell(self, pod: str) -> Any:
        """Order more than the stock; it raises InsufficientStockError."""
        return self.do(
            pod,
            PlaceOrder(
                merchant_id=merchant_of(pod),
                order_number=f"DRILL-{next(self._numbers)}",
                customer_id=None,
                location_id=LOCATION,
                lines=[OrderLineInput(sku=SCARCE_SKU, quantity=SCARCE_UNITS + 1)],
                source="drill",
            ),
        )

    def do(self, pod: str, command: Command[Answer]) -> Answer:
        """Run a command with a new idempotency key."""
        opened = self._pods[pod]
        return execute(opened, command, idempotency_key=f"drill/{opened.new_uuid()}")

    def _furnish(self, pod: str) -> None:
        merchant_id, opened = merchant_of(pod), self._pods[pod]
        self.do(
            pod,
            RegisterMerchant(
                merchant_id=merchant_id,
                name="Drill",
                currency="GBP",
                is_tax_inclusive=True,
                jurisdiction="GB",
                tax_rates=[
                    TaxRate(jurisdiction="GB", tax_category=category, rate_ppm=200_000)
                    for category in ("shipping", "standard")
                ],
            ),
        )
        for sku, units in ((SKU, STOCK_UNITS), (SCARCE_SKU, SCARCE_UNITS)):
            variant = VariantInput(variant_id=str(opened.new_uuid()), sku=sku, title=sku, unit_price_micro=9_990_000)
            self.do(
                pod,
                UpsertProduct(
                    merchant_id=merchant_id, product_id=str(opened.new_uuid()), title=sku, variants=[variant]
                ),
            )
            received = [StockInput(variant_id=variant.variant_id, quantity=units)]
            self.do(pod, ReceiveStock(merchant_id=merchant_id, location_id=LOCATION, lines=received))


def merchant_of(pod: str) -> str:
    """Return the drill's merchant in a pod."""
    return f"drill-{pod}"


def refusal(attempt: Callable[[], object]) -> str | None:
    """Return the name of the ConflictError that an attempt raises; None when it succeeds.

    Other errors are raised: an unreachable pod has not refused anything.
    """
    try:
        attempt()
    except ConflictError as error:
        return type(error).__name__
    return None


def complaint(attempt: Callable[[], object]) -> TieoutError | None:
    """Return the TieoutError that an attempt raises; None when it succeeds."""
    try:
        attempt()
    except TieoutError as error:
        return error
    return None
