from __future__ import annotations

import random
from collections import Counter

from oltp.commands.receive_stock import ReceiveStock
from traffic.calibration import PERMYRIAD, REAL, Tally, draw, product_weights
from traffic.content_ids import CATALOG_TIME, content_id
from traffic.generator import deliveries, generate
from traffic.plans import LINES_DIVISOR, Cancellation, Payment, Refund
from traffic.retail.invoices import InvoiceKey
from traffic.shops import SHOPS, catalog, variant_id


def test_the_same_seed_draws_the_same_plan() -> None:
    assert generate(orders=50, seed=7) == generate(orders=50, seed=7)
    assert generate(orders=50, seed=7) != generate(orders=50, seed=8)
    assert generate(orders=50, seed=7).orders != generate(orders=50, seed=7, first_number=51).orders


def test_order_numbers_count_on() -> None:
    assert [order.order_number for order in generate(orders=2, seed=1, first_number=9).orders] == [
        "G-0000009",
        "G-0000010",
    ]


def test_everything_that_can_happen_to_an_order_happens() -> None:
    plan = generate(orders=2_000, seed=1)
    assert {order.payment for order in plan.orders} == set(Payment)
    assert {order.refund for order in plan.orders} == set(Refund)
    assert {order.cancellation for order in plan.orders} == set(Cancellation)
    assert {side.what for side in plan.beside} == {
        "write_off",
        "abandon",
        "price_change",
        "loyalty",
        "gift_card",
    }
    assert any(order.discount_minor for order in plan.orders)
    assert any(order.is_reserved_first for order in plan.orders)
    assert any(order.is_free for order in plan.orders)
    assert any(order.customer_id is None for order in plan.orders)


def test_what_is_delivered_covers_what_is_ordered() -> None:
    plan = generate(orders=200, seed=2)
    ordered: Counter[str] = Counter()
    for order in plan.orders:
        for line in order.lines:
            if line.sku != "WRAP":
                ordered[variant_id(order.merchant_id, line.sku)] += line.quantity
    delivered: Counter[str] = Counter()
    for item in deliveries(plan):
        assert isinstance(item.command, ReceiveStock)
        delivered.update({line.variant_id: line.quantity for line in item.command.lines})
    assert all(delivered[variant] >= units for variant, units in ordered.items())


def test_generated_trade_has_the_shape_of_real_trade() -> None:
    prices = {(shop.merchant_id, item.sku): item.unit_price_minor for shop in SHOPS for item in catalog(shop)}
    plan = generate(orders=4_000, seed=11)
    tally = Tally()
    for order in plan.orders:
        key = InvoiceKey(order.merchant_id, order.order_number)
        for line in order.lines:
            product = f"{order.merchant_id}/{line.sku}"
            price = prices[order.merchant_id, line.sku]
            tally.add(key, product, line.quantity, price, is_guest=order.customer_id is None)
    shape = tally.shape()
    assert abs(shape.merchant_shares[0] - REAL.merchant_shares[0]) < 300
    free = sum(1 for order in plan.orders if order.is_free)
    assert abs(free * PERMYRIAD // len(plan.orders) - REAL.free_orders) < 150
    assert abs(shape.guests - REAL.guests) < 200
    # Medians of units and prices; orders are an eighth as long; a tenth of the products has about half the lines.
    assert REAL.units_per_line[7] // 2 <= shape.units_per_line[7] <= REAL.units_per_line[7] * 2
    assert REAL.unit_price_minor[7] * 2 // 3 <= shape.unit_price_minor[7] <= REAL.unit_price_minor[7] * 3 // 2
    assert abs(shape.lines_per_order[9] - REAL.lines_per_order[9] // LINES_DIVISOR) <= 1
    assert abs(shape.top_products[2] - REAL.top_products[2]) < 1_500
    write_offs = sum(1 for side in plan.beside if side.what == "write_off")
    assert abs(write_offs * PERMYRIAD // len(plan.orders) - REAL.write_offs) < 150


def test_draws_stay_between_their_quantiles_and_reach_the_tail() -> None:
    rng = random.Random(1)
    values = [draw(REAL.lines_per_order, rng) for _ in range(20_000)]
    assert min(values) >= 1
    assert max(values) > REAL.lines_per_order[11]
    assert sorted(values)[10_000] in range(12, 17)
    assert max(draw(REAL.lines_per_order, rng, up_to=9_000) for _ in range(2_000)) <= REAL.lines_per_order[10]


def test_the_law_of_popularity_fits_the_measured_skew() -> None:
    weights = product_weights(3_548)
    for part, share in zip((100, 500, 1_000, 2_000, 5_000), REAL.top_products, strict=True):
        top = sum(weights[: len(weights) * part // PERMYRIAD]) / sum(weights) * PERMYRIAD
        assert abs(top - share) < 700, part


def test_content_ids_are_version_7_and_follow_from_content() -> None:
    first = content_id(CATALOG_TIME, "a", "b")
    assert first == content_id(CATALOG_TIME, "a", "b") != content_id(CATALOG_TIME, "ab")
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
