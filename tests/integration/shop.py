"""A shop for tests of the selling commands: one merchant in one pod, with stocked goods and a service.

Belongs here: setting up, asking by short calls, and the identities that must hold whatever was done.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import psycopg

from contracts.events import AGGREGATES, STATE_TYPES
from contracts.events.adjustment import AdjustmentKind
from contracts.events.common import AggregateState
from contracts.events.merchant import Synonym, TaxRate
from contracts.events.order import OrderLine, OrderState
from contracts.events.payment import PaymentState
from contracts.events.product import Attribute, ProductKind
from contracts.events.refund import RefundState
from contracts.ids import uuid7
from contracts.settings import PodSettings
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.quantities import QuantityInput
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.commands.upsert_product import UpsertProduct, VariantInput

Answer = TypeVar("Answer")

MERCHANT = "united-kingdom"
LOCATION = "main"
NOW = datetime(2011, 4, 1, 12, tzinfo=UTC)
PRICES = {"MUG": 4_990_000, "PIN": 333_333, "PEN": 1_000, "FREE": 0}
"""Micro-units per unit, before tax; PEN is a tenth of a penny."""


@dataclass(kw_only=True)
class Shop:
    """The merchant and how to ask it for things; every call has a key of its own unless given one."""

    pod: CommandPod
    settings: PodSettings
    variants: dict[str, str] = field(default_factory=dict)
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    done: dict[str, tuple[Command[Any], Any]] = field(default_factory=dict)
    """Every command that succeeded and its answer, by idempotency key."""

    def do(self, command: Command[Answer], key: str | None = None) -> Answer:
        """Execute a command."""
        key = key or f"key-{next(self.keys)}"
        answer = execute(self.pod, command, idempotency_key=key)
        self.done[key] = (command, answer)
        return answer

    def place(self, *lines: tuple[str, int], **options: Any) -> OrderState:
        """Place an order of (sku, quantity) lines, without shipping unless asked for."""
        return self.do(place_command(lines, f"N{next(self.keys)}", **options))

    def authorize(self, order: OrderState, amount_minor: int | None = None, **options: Any) -> PaymentState:
        """Authorize a payment of the order."""
        command = AuthorizePayment(merchant_id=MERCHANT, order_id=order.order_id, amount_minor=amount_minor, **options)
        return self.do(command)

    def capture(self, payment: PaymentState, amount_minor: int | None = None) -> PaymentState:
        """Capture the payment."""
        return self.do(CapturePayment(merchant_id=MERCHANT, payment_id=payment.payment_id, amount_minor=amount_minor))

    def pay(self, order: OrderState) -> PaymentState:
        """Authorize and capture all that is owed."""
        return self.capture(self.authorize(order))

    def fulfill(self, order: OrderState, *units: tuple[OrderLine, int]) -> Any:
        """Fulfill units of the order, all that is open when none are named."""
        return self.do(
            FulfillOrder(merchant_id=MERCHANT, order_id=order.order_id, location_id=LOCATION, lines=quantities(units))
        )

    def cancel(self, order: OrderState, *units: tuple[OrderLine, int]) -> OrderState:
        """Cancel units of the order, all that is open when none are named."""
        return self.do(CancelOrder(merchant_id=MERCHANT, order_id=order.order_id, lines=quantities(units)))

    def request_refund(
        self, payment: PaymentState, *units: tuple[OrderLine, int], is_restocked: bool = False
    ) -> RefundState:
        """Request a refund of units."""
        lines = [
            RefundLineInput(order_line_id=line.order_line_id, quantity=quantity, is_restocked=is_restocked)
            for line, quantity in units
        ]
        return self.do(
            RequestRefund(merchant_id=MERCHANT, payment_id=payment.payment_id, lines=lines, reason="returned")
        )

    def refund(self, payment: PaymentState, *units: tuple[OrderLine, int], is_restocked: bool = False) -> RefundState:
        """Request and complete a refund of units."""
        refund = self.request_refund(payment, *units, is_restocked=is_restocked)
        return self.do(CompleteRefund(merchant_id=MERCHANT, refund_id=refund.refund_id))

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read from the pod."""
        with psycopg.connect(self.settings.reader_dsn) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def stock(self, sku: str) -> tuple[int, int]:
        """(on hand, reserved) of a SKU."""
        ((on_hand, reserved),) = self.query(
            "select on_hand, reserved from oltp.stock_levels where variant_id = %s", self.variants[sku]
        )
        return on_hand, reserved

    def fold(self) -> dict[tuple[str, str], Any]:
        """The state of every aggregate as its newest event has it; versions must follow without a gap."""
        states: dict[tuple[str, str], Any] = {}
        events = self.query(
            "select aggregate_type, aggregate_id, aggregate_version, event_type, payload::text "
            "from oltp.outbox order by position"
        )
        for aggregate_type, aggregate_id, version, event_type, payload in events:
            state_type = STATE_TYPES[aggregate_type]
            assert event_type in set(AGGREGATES[state_type])
            key = (aggregate_type, aggregate_id)
            assert version == (states[key].version + 1 if key in states else 1)
            states[key] = msgspec.convert(msgspec.json.decode(payload)["state"], state_type)
            assert states[key].version == version
        return states

    def present(self, state_type: type[AggregateState], aggregate_id: str) -> Any:
        """The newest event's state of one aggregate."""
        ((payload,),) = self.query(
            "select payload::text from oltp.outbox where aggregate_type = %s and aggregate_id = %s "
            "order by aggregate_version desc limit 1",
            state_type.AGGREGATE_TYPE,
            aggregate_id,
        )
        return msgspec.convert(msgspec.json.decode(payload)["state"], state_type)

    def assert_identities(self) -> None:
        """What must hold in the pod whatever was done to it."""
        assert self.query("select * from oltp.stock_identity_violations") == []
        assert self.query(_ORDER_VIOLATIONS) == []
        assert self.query(_PAYMENT_VIOLATIONS) == []
        self._assert_fold_equals_rows()

    def _assert_fold_equals_rows(self) -> None:
        states = self.fold()
        for aggregate_type, table in (
            ("order", "orders"),
            ("payment", "payments"),
            ("refund", "refunds"),
            ("gift_card", "gift_cards"),
        ):
            rows = self.query(f"select {aggregate_type}_id::text, version, status from oltp.{table}")
            folded = [
                (state.aggregate_id, state.version, str(state.status))
                for (kind, _), state in states.items()
                if kind == aggregate_type
            ]
            assert sorted(rows) == sorted(folded)


_ORDER_VIOLATIONS = """
select orders.order_id
from oltp.orders
inner join oltp.order_lines as line using (order_id)
inner join oltp.order_tax_lines as tax using (order_line_id)
group by orders.order_id
having
    orders.total_minor <> orders.lines_minor - orders.discount_minor + orders.added_tax_minor + orders.shipping_minor
    or orders.total_minor <> sum(line.total_minor)
    or orders.tax_minor <> sum(tax.tax_minor)
    or orders.cancelled_minor <> sum(line.cancelled_minor)
    or bool_or(line.fulfilled_quantity + line.cancelled_quantity + line.withdrawn_quantity > line.quantity)
    or bool_or(line.amount_minor * 10000 + line.rounding_micro <> line.quantity * line.unit_price_micro)
    or bool_or((
        select coalesce(sum(given.amount_minor), 0) > line.total_minor - line.cancelled_minor
        from oltp.refund_lines as given inner join oltp.refunds using (refund_id)
        where given.order_line_id = line.order_line_id and refunds.status <> 'failed'
    ))
    or (
        select coalesce(sum(captured_minor - returned_minor), 0)
        from oltp.payments where payments.order_id = orders.order_id
    ) > orders.total_minor - orders.cancelled_minor
"""
_PAYMENT_VIOLATIONS = """
select payment_id from oltp.payments
where
    captured_minor > authorized_minor
    or refunded_minor > captured_minor
    or captured_minor <> (
        select coalesce(sum(amount_minor), 0) from oltp.payment_captures
        where payment_captures.payment_id = payments.payment_id
    )
    or refunded_minor <> (
        select coalesce(sum(amount_minor), 0) from oltp.refunds
        where refunds.payment_id = payments.payment_id and status = 'completed'
    )
    or (returned_minor, unallocated_minor) <> (
        select
            coalesce(sum(amount_minor) filter (where kind = 'returned'), 0),
            coalesce(sum(amount_minor) filter (where kind = 'unallocated'), 0)
            - coalesce(sum(amount_minor) filter (where kind = 'given_back'), 0)
        from oltp.payment_movements where payment_movements.payment_id = payments.payment_id
    )
    or (expires_at is not null) <> (
        status = 'pending'
        or (status = 'captured' and method is not null and captured_minor + released_minor < authorized_minor)
    )
"""


def place_command(lines: Sequence[tuple[str, int]], number: str, **options: Any) -> PlaceOrder:
    """A PlaceOrder of (sku, quantity) lines."""
    defaults: dict[str, Any] = {"customer_id": "c1", "location_id": LOCATION, "shipping": []}
    return PlaceOrder(
        merchant_id=MERCHANT,
        order_number=number,
        lines=[OrderLineInput(sku=sku, quantity=quantity) for sku, quantity in lines],
        **{**defaults, **options},
    )


def adjustment(merchant_id: str, amount_micro: int, **options: Any) -> BookAdjustment:
    """Return an adjustment by hand, of one unit of nothing in pounds, unless `options` say otherwise."""
    given: dict[str, Any] = {
        "kind": AdjustmentKind.MANUAL,
        "currency": "GBP",
        "quantity": 1,
        "reason": "by hand",
        "source": "test",
        **dict.fromkeys(("sku", "customer_id", "external_reference")),
        **options,
    }
    return BookAdjustment(merchant_id=merchant_id, amount_micro=amount_micro, **given)


def quantities(units: Sequence[tuple[OrderLine, int]]) -> list[QuantityInput] | None:
    """Units as the commands take them; None when no line is named."""
    return [QuantityInput(order_line_id=line.order_line_id, quantity=quantity) for line, quantity in units] or None


def open_shop(
    pod: CommandPod, settings: PodSettings, *, is_tax_inclusive: bool = False, units: int = 100, rate_ppm: int = 200_000
) -> Shop:
    """Register the merchant, with `units` of every SKU of goods on hand, and the service GIFTWRAP."""
    shop = Shop(pod=pod, settings=settings)
    rates = [("shipping", rate_ppm), ("standard", rate_ppm), ("zero", 0)]
    shop.do(
        RegisterMerchant(
            merchant_id=MERCHANT,
            name="United Kingdom",
            currency="GBP",
            is_tax_inclusive=is_tax_inclusive,
            jurisdiction="GB",
            shipping_fee_minor=495,
            free_shipping_from_minor=5_000,
            tax_rates=[TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=rate) for name, rate in rates],
            synonyms=[Synonym(words="beaker", means="cup")],
        )
    )
    for sku, price in [*PRICES.items(), ("GIFTWRAP", 2_500_000)]:
        shop.variants[sku] = str(uuid7())
        kind = ProductKind.SERVICE if sku == "GIFTWRAP" else ProductKind.GOODS
        variant = VariantInput(variant_id=shop.variants[sku], sku=sku, title=sku.title(), unit_price_micro=price)
        product = UpsertProduct(
            merchant_id=MERCHANT,
            product_id=str(uuid7()),
            title=sku.title(),
            kind=kind,
            variants=[variant],
            brand="Potter",
            attributes=[Attribute(name="color", value="blue")],
        )
        shop.do(product)
    received = [StockInput(variant_id=shop.variants[sku], quantity=units) for sku in PRICES]
    shop.do(ReceiveStock(merchant_id=MERCHANT, location_id=LOCATION, lines=received, reason="opening stock"))
    return shop
