"""Generates orders of two shops in the import's format: `python -m examples.shop_orders 5000 > orders.jsonl`.

Belongs here: trade of every kind that the format supports; the same seed gives the same orders. This program computes
the totals independently, so that an import checks the books' rule against another implementation. Nordwind sells in
Germany with tax inside the prices; Maple sells in Quebec with two taxes on top.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

CENT = Decimal("0.01")
FIRST = datetime(2026, 1, 2, 8, tzinfo=UTC)
MINUTES = 37
"""The time between two orders."""

Json = dict[str, Any]

SHOPS: tuple[Json, ...] = (
    {
        "merchant_id": "nordwind",
        "currency": "EUR",
        "jurisdiction": "DE",
        "is_tax_inclusive": True,
        "taxes": ([{"rate_percent": "19"}], [{"rate_percent": "7"}]),
    },
    {
        "merchant_id": "maple",
        "currency": "CAD",
        "jurisdiction": "CA",
        "is_tax_inclusive": False,
        "taxes": ([{"rate_percent": "5", "owed_to": "CA"}, {"rate_percent": "9.975", "owed_to": "CA-QC"}], []),
    },
)
GOODS = [(f"N-{number:03}", f"Article {number}", Decimal(number * 37 % 9_000 + 99) / 100) for number in range(1, 121)]
METHODS = ("card", "paypal", "invoice", "gift card")


def orders(count: int, seed: int) -> Iterator[Json]:
    """Yield the orders, oldest first."""
    rng = random.Random(seed)
    for number in range(1, count + 1):
        shop = SHOPS[rng.random() < 0.3]
        at = FIRST + timedelta(minutes=MINUTES * number)
        order = {name: value for name, value in shop.items() if name != "taxes"}
        order |= {"order_number": str(10_000 + number), "placed_at": at.isoformat()}
        if rng.random() < 0.9:
            order["customer_id"] = f"c{rng.randrange(1, count // 3 + 2)}"
        if rng.random() < 0.01:
            yield order | {"payments": _paid(order, Decimal(rng.randrange(500, 9_000)) / 100, at, "card")}
            continue
        _add_lines(rng, order, shop)
        _add_life(rng, order, at)
        yield order


def _add_lines(rng: random.Random, order: Json, shop: Json) -> None:
    lines = []
    for sku, title, price in rng.sample(GOODS, rng.choice((1, 1, 2, 2, 3, 5))):
        number = int(sku[2:])
        line = {"sku": sku, "title": title, "quantity": rng.randrange(1, 5), "unit_price": str(price)}
        line |= {"kind": "service" if number % 10 == 0 else "goods", "taxes": shop["taxes"][number % 7 == 0]}
        if rng.random() < 0.15:
            line["discount"] = str((price / 4).quantize(CENT, ROUND_HALF_UP))
        lines.append(line)
    if rng.random() < 0.7:
        lines.append({"kind": "shipping", "title": "Parcel", "unit_price": "4.90", "taxes": shop["taxes"][0]})
    order["lines"] = lines
    total = sum((line_total(line, is_inclusive=order["is_tax_inclusive"]) for line in lines), Decimal(0))
    if order["is_tax_inclusive"] and rng.random() < 0.1 and total > 20:
        order["discounts"] = [{"code": "WELCOME", "amount": "3.00"}]
        total -= 3
    order["total"] = str(total)


def line_total(line: Json, *, is_inclusive: bool) -> Decimal:
    """Return the amount owed for a line, rounded half away from zero; each tax on top is rounded separately."""
    amount = (Decimal(line["unit_price"]) * line.get("quantity", 1)).quantize(CENT, ROUND_HALF_UP)
    net: Decimal = amount - Decimal(line.get("discount", 0))
    if is_inclusive:
        return net
    taxes = (net * Decimal(tax["rate_percent"]) / 100 for tax in line["taxes"])
    return net + sum((tax.quantize(CENT, ROUND_HALF_UP) for tax in taxes), Decimal(0))


def _paid(order: Json, amount: Decimal, at: datetime, method: str, part: int = 1) -> list[Json]:
    reference = f"{method[:2]}_{order['order_number']}_{part}"
    return [{"reference": reference, "method": method, "captured": str(amount), "captured_at": at.isoformat()}]


def _add_life(rng: random.Random, order: Json, at: datetime) -> None:
    """Add payments, shipments, cancellations and refunds to the order."""
    total, kind, hour = Decimal(order["total"]), rng.random(), timedelta(hours=1)
    shipped = [{"shipped_at": (at + 20 * hour).isoformat(), "tracking_number": f"T{order['order_number']}"}]
    if kind < 0.02:
        return
    if kind < 0.06:
        set_aside = {"reference": f"au_{order['order_number']}", "method": "card", "authorized": str(total)}
        order["payments"] = [set_aside | {"released_at": (at + 3 * hour).isoformat()}]
        order["cancellations"] = [{"cancelled_at": (at + 2 * hour).isoformat(), "reason": "changed my mind"}]
        return
    order["payments"] = _paid(order, total, at + hour, rng.choice(METHODS))
    if kind < 0.10:
        order["cancellations"] = [{"cancelled_at": (at + 2 * hour).isoformat(), "reason": "sold out"}]
        order["refunds"] = [_refund(order, at + 3 * hour, amount=str(total))]
        return
    order["fulfillments"] = shipped
    if kind < 0.17:
        back = {"line": 1, "quantity": 1, "is_restocked": order["lines"][0]["kind"] == "goods"}
        order["refunds"] = [_refund(order, at + 90 * hour, lines=[back])]
    elif kind < 0.21:
        order["refunds"] = [_refund(order, at + 90 * hour, amount=str(min(total, Decimal("2.50"))))]
    elif kind < 0.25:
        half = (total / 2).quantize(CENT, ROUND_HALF_UP)
        order["payments"] = _paid(order, half, at + hour, "gift card")
        order["payments"] += _paid(order, total - half, at + hour, "card", part=2)
    elif kind < 0.27:
        order["payments"] = _paid(order, total + Decimal("5.00"), at + hour, "invoice")
    elif kind < 0.29:
        declined = {"reference": f"no_{order['order_number']}", "method": "card", "is_declined": True}
        order["payments"] = [declined, *order["payments"]]


def _refund(order: Json, at: datetime, **what: object) -> Json:
    return {"reference": f"re_{order['order_number']}", "refunded_at": at.isoformat(), "reason": "returned", **what}


def main() -> None:
    """Write the orders to the standard output."""
    parser = argparse.ArgumentParser(description="Orders of two shops in the import's format.")
    parser.add_argument("count", type=int, nargs="?", default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for order in orders(options.count, options.seed):
        sys.stdout.write(json.dumps(order) + "\n")


if __name__ == "__main__":
    main()
