"""A limit says what is written: what was stored before there were limits is read as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import limits
from contracts.events import STATE_TYPES
from contracts.events.order import OrderState

SCHEMAS = Path(__file__).resolve().parents[3] / "contracts" / "events" / "schemas"


def _properties(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for definition in document["$defs"].values():
        found |= definition.get("properties", {})
    return found


@pytest.mark.parametrize("aggregate_type", sorted(STATE_TYPES))
def test_schemas_say_the_limits(aggregate_type: str) -> None:
    (path,) = SCHEMAS.glob(f"{aggregate_type}.v*.json")
    properties = _properties(json.loads(path.read_text()))
    said = [name for name, value in properties.items() if "maxLength" in str(value) or "maximum" in str(value)]
    assert said


def test_an_order_from_before_the_limits_is_read() -> None:
    line: dict[str, Any] = {
        name: 0 for name in ("line_number", "amount_minor", "rounding_micro", "discount_minor", "rate_ppm")
    }
    line |= {name: 0 for name in ("taxable_minor", "tax_minor", "total_minor", "cancelled_quantity", "cancelled_minor")}
    line |= {
        "cancelled_tax_minor": 0,
        "discount_minor": 0,
        "fulfilled_quantity": 0,
        "quantity": 10**12,
        "unit_price_micro": 10**18 + 1,
    }
    line |= {"order_line_id": "1", "kind": "service", "variant_id": None, "sku": "\x1b" * 300, "title": "t" * 9_000}
    line |= {
        "price_source": "p",
        "price_reason": None,
        "jurisdiction": "",
        "tax_category": "",
        "is_tax_inclusive": True,
    }
    order: dict[str, Any] = {
        name: 10**17 for name in OrderState.__struct_fields__ if name.endswith(("_minor", "_micro"))
    }
    order |= {"merchant_id": "a\nb", "version": 1, "order_id": "1", "order_number": "n" * 500, "currency": "GBP"}
    order |= {"customer_id": "c" * 3_000, "status": "placed", "source": "s", "reservation_id": None}
    order |= {"placed_at": "2026-01-01T00:00:00Z", "lines": [line], "discounts": []}
    read = msgspec.json.decode(msgspec.json.encode(order), type=OrderState)
    assert read.customer_id is not None and len(read.customer_id) > limits.CUSTOMER_ID.longest
    assert read.total_minor > limits.AMOUNT_MINOR_MAX and read.lines[0].unit_price_micro > limits.AMOUNT_MICRO_MAX
