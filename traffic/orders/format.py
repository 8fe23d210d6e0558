"""The format of orders that are imported: version 1, as values. Its JSON Schema is docs/how-to/orders.v1.schema.json.

Belongs here: fields, their types and limits. Does not belong here: files (`reading.py`), a shop's own names for the
fields (`mapping.py`), booking an order (`rehearsal.py`).

A field that is required here has no default. Amounts are decimals in major units of the order's currency, as text or as
JSON numbers; none is negative. Times have an offset from UTC, or the mapping gives the time zone.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contracts.events.order import LineKind

FORMAT_VERSION = 1

NUMBER_CHARACTERS_MAX = 200
"""Less than the limit of a command's idempotency key, because keys contain the order number."""
NAME_CHARACTERS_MAX = 255

OrderNumber = Annotated[str, Meta(min_length=1, max_length=NUMBER_CHARACTERS_MAX)]
MerchantName = Annotated[str, Meta(min_length=1, max_length=100)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
ProviderName = Annotated[str, Meta(min_length=1, max_length=100)]
Words = Annotated[str, Meta(max_length=500)]
Quantity = Annotated[int, Meta(ge=1, le=10**9)]
QuantityOrNone = Annotated[int, Meta(ge=0, le=10**9)]
Place = Annotated[int, Meta(ge=1, le=5_000)]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of an order. Unknown names are refused, because one may be a misspelt amount."""


class Tax(Part, frozen=True, kw_only=True):
    """One tax on a line; a line without taxes is untaxed."""

    rate_percent: Decimal
    """20 means 20 %; at most four decimals."""
    owed_to: Annotated[str, Meta(max_length=100)] = ""
    """Where this tax is owed, e.g. ``CA-QST``; required when a line has several taxes."""


class Line(Part, frozen=True, kw_only=True):
    """Goods, a service (anything virtual), or a shipping charge."""

    kind: LineKind = LineKind.GOODS
    """Goods are stocked and shipped. The quantity of a shipping charge counts parcels, but it is booked as one charge.
    """
    sku: Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)] = ""
    """Required for goods and services."""
    title: Words = ""
    quantity: Quantity = 1
    unit_price: Decimal
    """Before discounts; at most six decimals."""
    discount: Decimal = Decimal(0)
    """The discount on the whole line."""
    taxes: list[Tax] = []
    tax: Decimal | None = None
    """Optional; it must equal the tax that the books' rule gives."""
    total: Decimal | None = None
    """Optional; it must equal what the customer owes for the line by the books' rule, after discount, with tax."""


class Discount(Part, frozen=True, kw_only=True):
    """A discount on one line, or (without `line`) on all goods and services."""

    code: Name = "discount"
    amount: Decimal
    line: Place | None = None


class Payment(Part, frozen=True, kw_only=True):
    """One authorization at a provider, and what was captured of it; or what was taken from a gift card."""

    reference: Name
    """The provider's reference; unique within the order."""
    method: ProviderName = "unknown"
    """The payment method, e.g. ``card`` or ``paypal``; it is stored as the payment's provider."""
    authorized: Decimal | None = None
    """None: the captured amount."""
    captured: Decimal | None = None
    """The amount that was captured, before refunds."""
    authorized_at: datetime | None = None
    """None: the time of the order or, if only `captured` is stated, the time of the capture."""
    captured_at: datetime | None = None
    """None: the time of the order."""
    released_at: datetime | None = None
    """When the provider released the uncaptured amount; a payment without a capture is voided then."""
    is_declined: bool = False
    """Whether it was declined; then it is recorded as declined, and no money moved."""
    gift_card: Name | None = None
    """If a gift card paid: the shop's reference of the card, never its code. `method` does not matter then."""
    is_gift_card_granted: bool = False
    """Whether that card was given away; else it was sold, and its money is cash that was received."""


class Units(Part, frozen=True, kw_only=True):
    """Units of one line, named by its place in `lines` (from 1), or by its SKU if only one line has that SKU."""

    line: Place | None = None
    sku: Name | None = None
    quantity: Quantity


class RefundedUnits(Part, frozen=True, kw_only=True):
    """Refunded units of one line; with `quantity` 0 only money."""

    line: Place | None = None
    sku: Name | None = None
    quantity: QuantityOrNone = 0
    amount: Decimal | None = None
    """None: the price of the units."""
    is_restocked: bool = False
    """Whether the units came back and can be sold again."""


class Refund(Part, frozen=True, kw_only=True):
    """A refund, either of lines or of an amount."""

    reference: Name
    """The shop's or the provider's reference; unique within the order."""
    refunded_at: datetime
    payment: Name | None = None
    """The reference of the refunded payment; None: the first payment from which the whole amount can still be refunded.
    """
    reason: Words = ""
    amount: Decimal | None = None
    """With lines: it must be their sum. Without lines: it is split by what is left of each line."""
    lines: list[RefundedUnits] = []


class Cancellation(Part, frozen=True, kw_only=True):
    """Units that will not be delivered; without lines, all open units."""

    cancelled_at: datetime
    reason: Words = ""
    lines: list[Units] = []


class Fulfillment(Part, frozen=True, kw_only=True):
    """Units that were shipped or rendered; without lines, all open units."""

    shipped_at: datetime
    tracking_number: Name | None = None
    lines: list[Units] = []


class OrderRecord(Part, frozen=True, kw_only=True):
    """One order with all its events. An order without lines is a payment that belongs to no goods."""

    format_version: Literal[1] = 1
    merchant_id: MerchantName
    """The seller. A merchant has one currency and one jurisdiction; it is registered with its first order."""
    order_number: OrderNumber
    """The merchant's order number; merchant and number identify the order permanently."""
    placed_at: datetime
    currency: Annotated[str, Meta(min_length=3, max_length=3)]
    """An ISO 4217 code."""
    jurisdiction: MerchantName
    """The jurisdiction from which the merchant sells, e.g. ``DE``."""
    customer_id: Name | None = None
    is_tax_inclusive: bool
    """Whether the order's prices and discounts contain the tax."""
    lines: list[Line] = []
    discounts: list[Discount] = []
    payments: list[Payment] = []
    refunds: list[Refund] = []
    cancellations: list[Cancellation] = []
    fulfillments: list[Fulfillment] = []
    total: Decimal | None = None
    """Optional; it must equal what the books' rule gives: all lines after discount, with tax and shipping."""
    tax: Decimal | None = None
    """The sum of all taxes, contained or added; checked like `total`."""
    discount: Decimal | None = None
    """The sum of all discounts; checked like `total`."""
    shipping: Decimal | None = None
    """The sum of all shipping charges, without added tax; checked like `total`."""


PARTS: dict[str, type[Part]] = {
    "": OrderRecord,
    "line": Line,
    "tax": Tax,
    "discount": Discount,
    "payment": Payment,
    "refund": Refund,
    "refund_line": RefundedUnits,
    "cancellation": Cancellation,
    "cancellation_line": Units,
    "fulfillment": Fulfillment,
    "fulfillment_line": Units,
}
"""The parts of an order by their name in mappings and columns; e.g. `refund.amount` is a field of `refund`."""

LISTS = {
    "": {
        "lines": "line",
        "discounts": "discount",
        "payments": "payment",
        "refunds": "refund",
        "cancellations": "cancellation",
        "fulfillments": "fulfillment",
    },
    "line": {"taxes": "tax"},
    "refund": {"lines": "refund_line"},
    "cancellation": {"lines": "cancellation_line"},
    "fulfillment": {"lines": "fulfillment_line"},
}
"""For each part, its fields that hold lists of parts."""


def paths_of(part: str) -> list[str]:
    """Return the names of a part's own fields in columns and mappings: ``line.sku``, ``order_number``."""
    prefix = f"{part}." if part else ""
    return [prefix + name for name in PARTS[part].__struct_fields__ if name not in LISTS.get(part, {})]


def json_schema() -> bytes:
    """Return the JSON Schema of one order."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(OrderRecord)), indent=2) + b"\n"
