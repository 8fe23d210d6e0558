"""Orders in the import's format that tests start from."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from traffic.orders.documents import of_json, order_of
from traffic.orders.known import unregistered
from traffic.orders.mapping import DIRECT
from traffic.orders.rehearsal import Plan, rehearse

Json = dict[str, Any]

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PLACED = "2026-01-05T10:00:00Z"
LATER = "2026-01-05T12:00:00Z"
HEAD: Json = {
    "merchant_id": "acme",
    "order_number": "1",
    "placed_at": PLACED,
    "currency": "EUR",
    "jurisdiction": "DE",
    "is_tax_inclusive": True,
}
VAT = [{"rate_percent": "19"}]
QUEBEC = [{"rate_percent": "5", "owed_to": "CA"}, {"rate_percent": "9.975", "owed_to": "CA-QC"}]
LINES: list[Json] = [
    {"sku": "TEA", "quantity": 3, "unit_price": "9.99", "taxes": VAT},
    {"sku": "CARD", "kind": "service", "unit_price": "5", "taxes": [{"rate_percent": 7}]},
    {"kind": "shipping", "unit_price": "4.90", "taxes": VAT},
]
"""Come to 39.87."""


def order(**fields: object) -> Json:
    """Return an order of the lines above, with these fields."""
    return {**HEAD, "lines": LINES, **fields}


def paid(amount: str, reference: str = "ch_1", **fields: object) -> Json:
    """Return a payment."""
    return {"reference": reference, "method": "card", "captured": amount, **fields}


def refund(reference: str = "re_1", **fields: object) -> Json:
    """Return a refund."""
    return {"reference": reference, "refunded_at": LATER, **fields}


def rehearsed(given: Json, allowance: str = "0") -> Plan:
    """Return the plan of an order of a merchant that is not registered yet."""
    record = order_of(of_json(given, DIRECT))
    return rehearse(record, unregistered(record), Decimal(allowance), NOW)
