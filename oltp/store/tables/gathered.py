"""Tables whose check constraints are one function: for each, a short condition that implies all of them.

PostgreSQL reads the text of a table's check constraints again for each statement that writes the table. For the tables
that every order writes, `oltp.gather_checks` (`0025_cheaper_limits.sql`) replaces them by a function, which asks the
short condition first and each constraint only where that fails. The constraints keep their names and their meaning;
they are declared with their tables and in `limits.py`, as everywhere.

Belongs here: the short conditions, of a row named `checked`. A test compares each constraint with the short condition
that implies it. Does not belong here: the constraints.

How they are short: one comparison with the largest of several amounts, not one each; bytes of a text, which are at
least its characters; one search for refused characters in all texts of a row; the smallest limit of all currencies.
"""

from __future__ import annotations

from contracts import limits
from contracts.limits import Text

REFUSED = "{refused}"
"""Stands for the characters that `Characters.PLAIN` refuses; the function has them once."""
_SMALLEST_MINOR = limits.AMOUNT_MICRO_MAX // 10**6
"""The limit of an amount in minor units of the currencies with the largest ones."""
_PLAIN_PRODUCT = (10**6, limits.AMOUNT_MICRO_MAX // 10**6)
"""A quantity and a price: the product of no smaller ones exceeds its limit."""


def _texts(needed: dict[str, Text], optional: dict[str, Text] | None = None) -> tuple[str, ...]:
    """Return the conditions that texts of a row have no more bytes than allowed characters, and only plain ones."""
    lengths = [f"octet_length(checked.{name}) <= {limit.longest}" for name, limit in needed.items()]
    lengths += [
        f"coalesce(octet_length(checked.{name}), 0) <= {limit.longest}" for name, limit in (optional or {}).items()
    ]
    texts = [f"checked.{name}" for name in needed] + [f"coalesce(checked.{name}, '')" for name in optional or ()]
    # What WRITTEN refuses, PLAIN refuses, too.
    return (*lengths, f"({' || '.join(texts)}) !~ {REFUSED}")


def _not_negative(*columns: str) -> str:
    return f"least({', '.join(f'checked.{column}' for column in columns)}) >= 0"


def _at_most(largest: int, *columns: str) -> str:
    return f"greatest({', '.join(f'checked.{column}' for column in columns)}) <= {largest}"


SHORT: dict[str, tuple[str, ...]] = {
    "orders": (
        "checked.version >= 1",
        "checked.currency ~ '^[A-Z]{3}$'",
        "checked.status in ('placed', 'partially_fulfilled', 'fulfilled', 'cancelled')",
        _not_negative(
            "lines_minor",
            "shipping_minor",
            "discount_minor",
            "added_tax_minor",
            "tax_minor",
            "total_minor",
            "cancelled_minor",
            "cancelled_tax_minor",
        ),
        _at_most(_SMALLEST_MINOR // 2, "lines_minor", "shipping_minor", "discount_minor", "tax_minor", "total_minor"),
        "checked.total_minor = checked.lines_minor - checked.discount_minor + checked.added_tax_minor"
        " + checked.shipping_minor",
        "checked.added_tax_minor <= checked.tax_minor",
        "checked.cancelled_minor <= checked.total_minor",
        "checked.cancelled_tax_minor <= checked.tax_minor",
        f"checked.rounding_micro between -{limits.AMOUNT_MICRO_MAX} and {limits.AMOUNT_MICRO_MAX}",
        *_texts(
            {"order_number": limits.ORDER_NUMBER, "source": limits.SOURCE},
            {"customer_id": limits.CUSTOMER_ID},
        ),
    ),
    "order_lines": (
        "checked.kind in ('goods', 'service', 'shipping')",
        "(checked.kind = 'shipping') = (checked.variant_id is null)",
        "least(checked.line_number, checked.quantity) >= 1",
        _not_negative(
            "unit_price_micro",
            "amount_minor",
            "discount_minor",
            "total_minor",
            "cancelled_quantity",
            "cancelled_minor",
            "cancelled_tax_minor",
            "fulfilled_quantity",
            "withdrawn_quantity",
        ),
        f"checked.quantity <= {_PLAIN_PRODUCT[0]}",
        f"checked.unit_price_micro <= {_PLAIN_PRODUCT[1]}",
        _at_most(limits.AMOUNT_MINOR_MAX, "amount_minor", "total_minor", "cancelled_tax_minor"),
        "checked.discount_minor <= checked.amount_minor",
        "checked.cancelled_minor <= checked.total_minor",
        _at_most(limits.STOCK_MAX, "cancelled_quantity", "fulfilled_quantity", "withdrawn_quantity"),
        "checked.fulfilled_quantity + checked.cancelled_quantity + checked.withdrawn_quantity <= checked.quantity",
        f"checked.rounding_micro between -{limits.AMOUNT_MICRO_MAX} and {limits.AMOUNT_MICRO_MAX}",
        *_texts(
            {"sku": limits.SKU, "title": limits.TITLE, "price_source": limits.PRICE_SOURCE},
            {"price_reason": limits.NOTE},
        ),
    ),
    "order_tax_lines": (
        _not_negative("rate_ppm", "taxable_minor", "tax_minor"),
        f"checked.rate_ppm <= {limits.RATE_PPM.most}",
        _at_most(limits.AMOUNT_MINOR_MAX, "taxable_minor", "tax_minor"),
        *_texts({"jurisdiction": limits.JURISDICTION, "tax_category": limits.TAX_CATEGORY}),
    ),
    "reservation_lines": (
        "checked.quantity > 0",
        _not_negative("consumed_quantity", "released_quantity"),
        _at_most(limits.STOCK_MAX, "quantity", "consumed_quantity", "released_quantity"),
        "checked.consumed_quantity + checked.released_quantity <= checked.quantity",
        *_texts({"location_id": limits.LOCATION_ID}),
    ),
    "stock_slots": (
        _not_negative("on_hand", "reserved"),
        "checked.reserved <= checked.on_hand",
        f"checked.slots in (1, {limits.STOCK_SLOTS})",
        "checked.slot >= 0",
        "checked.slot < checked.slots",
        f"checked.on_hand <= {limits.STOCK_MAX}",
        f"checked.on_hand * checked.slots <= {limits.STOCK_MAX}",
        *_texts({"location_id": limits.LOCATION_ID}),
    ),
    "idempotency_keys": _texts({"idempotency_key": limits.IDEMPOTENCY_KEY}),
}
"""By table; each condition is a line of the function."""
