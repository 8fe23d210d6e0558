"""Orders from placing to refund on a real pod: every event, every identity, every refusal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.errors import (
    ConflictError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InputError,
    InsufficientStockError,
    NotFoundError,
)
from contracts.events.order import LineKind, OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundStatus
from contracts.events.stock import ReservationState, ReservationStatus
from contracts.ids import uuid7
from oltp.commands.execute import build_command_pod
from oltp.commands.fail_refund import FailRefund
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder, PriceOverride
from oltp.commands.receive_stock import StockInput
from oltp.commands.reserve_stock import ReserveStock
from oltp.commands.set_price import SetPrice
from oltp.commands.void_payment import VoidPayment
from oltp.transaction import CommandTransaction
from tests.conftest import MakePod
from tests.integration.shop import LOCATION, MERCHANT, NOW, PRICES, Shop, open_shop, place_command


def event_types(shop: Shop, *aggregate_types: str) -> list[str]:
    rows = shop.query(
        "select event_type from oltp.outbox where aggregate_type = any(%s) order by position", list(aggregate_types)
    )
    return [row[0] for row in rows]


def test_an_order_s_life_leaves_every_event(shop: Shop) -> None:
    order = shop.place(
        ("MUG", 3), ("PIN", 7), ("GIFTWRAP", 1), discounts=[DiscountInput(code="TEN", amount_minor=100)], shipping=None
    )
    assert (order.status, order.version, order.placed_at) == (OrderStatus.PLACED, 1, NOW)
    assert (order.lines_minor, order.discount_minor, order.shipping_minor) == (1497 + 233 + 250, 100, 495)
    assert order.lines[3].kind is LineKind.SHIPPING
    assert shop.stock("MUG") == (100, 3)
    payment = shop.capture(shop.authorize(order))
    assert (payment.authorized_minor, payment.captured_minor) == (order.total_minor, order.total_minor)
    fulfillment = shop.fulfill(order)
    assert sum(line.quantity for line in fulfillment.lines) == 12
    assert shop.stock("MUG") == (97, 0)
    refund = shop.refund(payment, (order.lines[0], 1), is_restocked=True)
    assert (refund.status, refund.completed_at) == (RefundStatus.COMPLETED, NOW)
    assert shop.stock("MUG") == (98, 0)
    assert shop.present(OrderState, order.order_id).status is OrderStatus.FULFILLED
    sales = ("order", "payment", "refund", "fulfillment", "reservation", "stock_movement")
    assert event_types(shop, *sales)[4:] == [
        "stock_reserved",
        "order_placed",
        "payment_authorized",
        "payment_captured",
        "order_fulfilled",
        "fulfillment_shipped",
        "reservation_consumed",
        "stock_moved",
        "stock_moved",
        "refund_requested",
        "refund_completed",
        "payment_refunded",
        "stock_moved",
    ]


def test_every_command_repeated_under_its_key_has_one_effect(shop: Shop) -> None:
    order = shop.place(("MUG", 3))
    payment = shop.capture(shop.authorize(order, 900), 700)
    shop.fulfill(order, (order.lines[0], 1))
    shop.do(FailRefund(merchant_id=MERCHANT, refund_id=refunded(shop, payment, order), failure_reason="no"))
    shop.refund(payment, (order.lines[0], 1), is_restocked=True)
    shop.do(VoidPayment(merchant_id=MERCHANT, payment_id=shop.authorize(order, 100).payment_id))
    shop.cancel(order, (order.lines[0], 1))
    before = shop.fold()
    for key, (command, answer) in dict(shop.done).items():
        assert shop.do(command, key) == answer
    assert shop.fold() == before
    with pytest.raises(IdempotencyConflictError):
        shop.do(place_command([("MUG", 4)], "other"), next(iter(shop.done)))


def refunded(shop: Shop, payment: PaymentState, order: OrderState) -> str:
    return shop.request_refund(payment, (order.lines[0], 1)).refund_id


def test_prices_and_tax_are_read_again_and_kept(shop: Shop) -> None:
    first = shop.place(("MUG", 1))
    shop.do(SetPrice(merchant_id=MERCHANT, variant_id=shop.variants["MUG"], unit_price_micro=6_000_000))
    second = shop.place(("MUG", 1))
    assert [order.lines[0].unit_price_micro for order in (first, second)] == [4_990_000, 6_000_000]
    assert (second.lines[0].rate_ppm, second.lines[0].tax_minor, second.total_minor) == (200_000, 120, 720)
    assert shop.present(OrderState, first.order_id) == first


def test_an_override_names_its_source_and_reason(shop: Shop) -> None:
    override = PriceOverride(unit_price_micro=1_000, source="import:online_retail", reason="price of the file")
    order = shop.do(
        PlaceOrder(
            merchant_id=MERCHANT,
            order_number="536365",
            customer_id=None,
            location_id=LOCATION,
            lines=[OrderLineInput(sku="MUG", quantity=1, price_override=override)],
            shipping=[PriceOverride(unit_price_micro=18_000_000, source="import:online_retail", reason="POST")],
            source="import:online_retail",
        )
    )
    goods, shipping = order.lines
    assert (goods.price_source, goods.price_reason) == ("override:import:online_retail", "price of the file")
    assert (goods.amount_minor, goods.rounding_micro) == (0, 1_000)
    assert (shipping.kind, shipping.amount_minor, shipping.tax_minor) == (LineKind.SHIPPING, 1800, 360)
    assert order.rounding_micro == 1_000


def test_sub_penny_prices_round_once_per_line_and_keep_the_rest(shop: Shop) -> None:
    order = shop.place(("PEN", 1), ("PEN", 7), ("PEN", 1))
    assert [line.amount_minor for line in order.lines] == [0, 1, 0]
    assert [line.line_number for line in order.lines] == [1, 2, 3]
    assert order.lines_minor * 10_000 + order.rounding_micro == 9 * 1_000
    assert shop.stock("PEN") == (100, 9)


def test_a_free_order_is_shipped_without_a_payment(shop: Shop) -> None:
    order = shop.place(("FREE", 2))
    assert order.total_minor == 0
    with pytest.raises(ConflictError, match="nothing open to pay"):
        shop.authorize(order)
    shop.fulfill(order)
    assert shop.present(OrderState, order.order_id).status is OrderStatus.FULFILLED


def test_services_are_not_stocked(shop: Shop) -> None:
    order = shop.place(("GIFTWRAP", 1_000))
    assert order.reservation_id is None
    shop.fulfill(order, (order.lines[0], 400))
    after = shop.cancel(order)
    assert (after.status, after.lines[0].fulfilled_quantity) == (OrderStatus.FULFILLED, 400)


@pytest.mark.parametrize(
    ("lines", "options", "error"),
    [
        ([("NOPE", 1)], {}, NotFoundError),
        ([("MUG", 0)], {}, InputError),
        ([("MUG", 101)], {}, InsufficientStockError),
        ([("MUG", 60), ("MUG", 41)], {}, InsufficientStockError),
        ([("MUG", 1)], {"location_id": "elsewhere"}, InsufficientStockError),
        ([("MUG", 1)], {"discounts": [DiscountInput(code="X", amount_minor=500)]}, InputError),
        ([("MUG", 1)], {"discounts": [DiscountInput(code="X", amount_minor=0)]}, InputError),
        ([], {}, InputError),
        ([("MUG", 1)], {"reservation_id": str(uuid7())}, NotFoundError),
    ],
)
def test_an_order_that_cannot_be_leaves_nothing(shop: Shop, lines, options, error) -> None:
    before = shop.fold()
    with pytest.raises(error):
        shop.place(*lines, **options)
    assert shop.fold() == before


def test_order_numbers_are_unique_within_the_merchant(shop: Shop) -> None:
    shop.do(place_command([("MUG", 1)], "A1"))
    with pytest.raises(ConflictError, match="number"):
        shop.do(place_command([("MUG", 1)], "A1"))


def test_parts_are_cancelled_and_fulfilled_to_the_end(shop: Shop) -> None:
    order = shop.place(("PIN", 10), ("MUG", 2), shipping=None)
    pins, mugs, _shipping = order.lines
    order = shop.cancel(order, (pins, 3))
    assert (order.status, shop.stock("PIN")) == (OrderStatus.PLACED, (100, 7))
    shop.fulfill(order, (pins, 2), (mugs, 1))
    order = shop.present(OrderState, order.order_id)
    assert (order.status, order.lines[2].fulfilled_quantity) == (OrderStatus.PARTIALLY_FULFILLED, 1)
    with pytest.raises(ConflictError, match="5 open"):
        shop.fulfill(order, (pins, 6))
    with pytest.raises(InputError):
        shop.fulfill(order, (pins, 0))
    with pytest.raises(NotFoundError):
        shop.cancel(order, (shop.place(("MUG", 1)).lines[0], 1))
    order = shop.cancel(order)
    assert (order.status, order.lines[0].cancelled_quantity) == (OrderStatus.FULFILLED, 8)
    assert shop.stock("PIN") == (98, 0)
    assert shop.present(ReservationState, str(order.reservation_id)).status is ReservationStatus.RELEASED
    for step in (shop.cancel, shop.fulfill):
        with pytest.raises(IllegalTransitionError):
            step(order)


def test_a_cancelled_order_is_paid_no_more(shop: Shop) -> None:
    order = shop.place(("MUG", 1), shipping=None)
    payment = shop.authorize(order)
    order = shop.cancel(order)
    assert (order.status, order.cancelled_minor) == (OrderStatus.CANCELLED, order.total_minor)
    with pytest.raises(ConflictError):
        shop.capture(payment)
    with pytest.raises(IllegalTransitionError):
        shop.fulfill(order)
    assert shop.stock("MUG") == (100, 0)
    assert payment.status is PaymentStatus.AUTHORIZED


def test_a_fulfillment_leaves_from_where_the_units_are_held(shop: Shop) -> None:
    order = shop.place(("MUG", 1))
    with pytest.raises(ConflictError, match="held at main"):
        shop.do(FulfillOrder(merchant_id=MERCHANT, order_id=order.order_id, location_id="elsewhere"))


@pytest.mark.parametrize("is_tax_inclusive", [False, True])
def test_cancelled_shipped_and_refunded_parts_sum_to_what_was_charged(
    make_pod: MakePod, is_tax_inclusive: bool
) -> None:
    settings = make_pod("pod2")
    with build_command_pod(settings, clock=lambda: NOW) as pod:
        shop = open_shop(pod, settings, is_tax_inclusive=is_tax_inclusive, rate_ppm=175_000)
        discounts = [DiscountInput(code="A", amount_minor=37), DiscountInput(code="B", amount_minor=64)]
        order = shop.place(("PIN", 7), ("MUG", 3), ("PIN", 2), discounts=discounts, shipping=None)
        first, mugs, second, shipping = order.lines
        payment = shop.authorize(order)
        order = shop.cancel(order, (first, 2), (mugs, 1))
        shop.fulfill(order)
        payment = shop.capture(payment)
        assert payment.captured_minor == order.total_minor - order.cancelled_minor
        parts = [(first, 1), (mugs, 2), (first, 3), (second, 1), (first, 1), (shipping, 1), (second, 1)]
        refunds = [shop.refund(payment, part) for part in parts]
        assert sum(refund.amount_minor for refund in refunds) == payment.captured_minor
        assert sum(refund.tax_minor for refund in refunds) == order.tax_minor - order.cancelled_tax_minor
        shop.assert_identities()


def test_an_order_takes_over_a_reservation_and_cancels_it_in_the_end(shop: Shop) -> None:
    lines = [StockInput(variant_id=shop.variants["MUG"], quantity=3)]
    reserve = ReserveStock(
        merchant_id=MERCHANT, location_id=LOCATION, lines=lines, expires_at=NOW + timedelta(minutes=15)
    )
    held = shop.do(reserve)
    with pytest.raises(ConflictError, match="exactly"):
        shop.place(("MUG", 2), reservation_id=held.reservation_id)
    order = shop.place(("MUG", 1), ("MUG", 2), reservation_id=held.reservation_id)
    taken = shop.present(ReservationState, held.reservation_id)
    assert (taken.order_id, taken.expires_at, shop.stock("MUG")) == (order.order_id, None, (100, 3))
    with pytest.raises(ConflictError, match="belongs to order"):
        shop.place(("MUG", 3), reservation_id=held.reservation_id)
    shop.cancel(order)
    assert shop.stock("MUG") == (100, 0)


def test_a_long_order_takes_as_many_statements_as_a_short_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    query = CommandTransaction.query

    def noted(tx: CommandTransaction, *args: Any) -> Any:
        sent.append(args[0])
        return query(tx, *args)

    monkeypatch.setattr(CommandTransaction, "query", noted)
    counts = []
    for lines in ([("MUG", 1)], [(sku, 1) for sku in PRICES] * 6):
        sent.clear()
        shop.place(*lines, discounts=[DiscountInput(code="A", amount_minor=1)])
        counts.append(len(sent))
    assert counts[0] == counts[1] <= 8
