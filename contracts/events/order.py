"""Events of an order with its lines, their tax basis, and its discounts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import (
    AmountOrNoneMinor,
    Currency,
    CustomerId,
    DiscountCode,
    Jurisdiction,
    LineNumber,
    Note,
    OrderNumber,
    PriceSource,
    Quantity,
    RatePpm,
    Sku,
    Source,
    TaxCategory,
    Title,
    UnitPriceMicro,
    Uuid,
)


class OrderEvent(StrEnum):
    """What can happen to an order."""

    ORDER_PLACED = "order_placed"
    ORDER_CANCELLED = "order_cancelled"
    """Wholly or in part; `status` tells which."""
    ORDER_FULFILLED = "order_fulfilled"
    """Wholly or in part; `status` tells which."""
    ORDER_UNITS_WITHDRAWN = "order_units_withdrawn"
    """Units were refunded before they were shipped."""
    ORDER_RESTATED = "order_restated"
    """The state is published again, because a write had bypassed the outbox."""


class OrderStatus(StrEnum):
    """Derived from the lines. A unit is closed when it is fulfilled, cancelled or withdrawn."""

    PLACED = "placed"
    PARTIALLY_FULFILLED = "partially_fulfilled"
    FULFILLED = "fulfilled"
    """Every unit is closed, and at least one unit is fulfilled."""
    CANCELLED = "cancelled"
    """Every unit is cancelled or withdrawn."""


class LineKind(StrEnum):
    """Shipping is a line, too, because it has a tax basis and can be refunded."""

    GOODS = "goods"
    SERVICE = "service"
    SHIPPING = "shipping"


DEPOSIT_TAX_CATEGORY = "customer deposit"
"""Tax category of lines that sell nothing: money held for the customer, e.g. cash above an order's total.

The journal books such a line on the account `customer_deposits`, not as revenue, until the money is given back.
"""


class OrderLine(Value, frozen=True, kw_only=True):
    """One line; table order_lines, its tax basis in table order_tax_lines (one row a line).

    When a line has several taxes, its `rate_ppm` and `tax_minor` are sums, and the order's `line_taxes` has each tax.

    amount_minor = round_half_away(quantity * unit_price); rounding_micro = quantity * unit_price - amount in micro.
    total_minor = amount_minor - discount_minor + (0 if is_tax_inclusive else tax_minor); taxable_minor = total - tax.
    Cancelled, fulfilled and withdrawn quantities never sum to more than quantity. The cancelled part of any amount is
    `contracts.money.portion(amount, cancelled_quantity, quantity)`. When all other units are refunded, it is the rest
    that these refunds left.
    """

    KEY: ClassVar[tuple[str, ...]] = ("order_line_id",)

    order_line_id: Uuid
    """The order line."""
    line_number: int
    """1 .. n, in the order in which the caller gave the lines."""
    kind: LineKind
    """What is sold."""
    variant_id: str | None
    """None for shipping."""
    sku: Sku
    """The variant's article number."""
    title: Title
    """Name of the sold item at the time of the order."""
    quantity: Quantity
    """Number of units that were ordered."""
    unit_price_micro: UnitPriceMicro
    """Price of one unit."""
    price_source: PriceSource
    """Where the price comes from: ``catalog``, ``merchant`` (shipping fee), or ``override:<source>`` (authorized)."""
    price_reason: Note | None
    """Why the price was overridden; None: it was not."""
    amount_minor: AmountOrNoneMinor
    """Quantity times unit price, rounded half away from zero."""
    rounding_micro: int
    """The exact product less the rounded amount."""
    discount_minor: AmountOrNoneMinor
    """This line's share of the order's discounts, >= 0."""
    jurisdiction: Jurisdiction
    """Where the tax is owed; when the line has several taxes, where the merchant sells from."""
    tax_category: TaxCategory
    """The tax category that selected the rate."""
    rate_ppm: RatePpm
    """Tax rate, in parts per million."""
    is_tax_inclusive: bool
    """Whether the price contains the tax."""
    taxable_minor: AmountOrNoneMinor
    """The amount that is taxed: total less tax."""
    tax_minor: AmountOrNoneMinor
    """Tax of the line, contained or added."""
    total_minor: AmountOrNoneMinor
    """What the customer owes for the line, tax included."""
    cancelled_quantity: int
    """Units cancelled."""
    cancelled_minor: AmountOrNoneMinor
    """portion(total_minor, cancelled_quantity, quantity), or the rest that refunds of all other units left. Of a
    cancelled order also what was never captured for withdrawn units."""
    cancelled_tax_minor: AmountOrNoneMinor
    """The tax in cancelled_minor."""
    fulfilled_quantity: int
    """Units fulfilled."""
    withdrawn_quantity: int = 0
    """Units that will not be shipped because they were refunded first; also shipping without units left to ship."""


class OrderLineTax(Value, frozen=True, kw_only=True):
    """One of several taxes on one line, each on the line's taxable_minor. Table order_line_taxes."""

    KEY: ClassVar[tuple[str, ...]] = ("order_line_id", "jurisdiction")

    order_line_id: Uuid
    """The order line."""
    jurisdiction: Jurisdiction
    """Where this tax is owed."""
    rate_ppm: RatePpm
    """In parts per million."""
    tax_minor: AmountOrNoneMinor
    """This tax of the line."""
    cancelled_tax_minor: AmountOrNoneMinor
    """How much of it was cancelled."""


class OrderDiscount(Value, frozen=True, kw_only=True):
    """A discount on one line or on the whole order.

    A discount on the whole order is allocated to the goods and service lines in proportion to their amounts.

    Table order_discounts.
    """

    KEY: ClassVar[tuple[str, ...]] = ("order_discount_id",)

    order_discount_id: Uuid
    """The discount."""
    code: DiscountCode
    """What it is called, e.g. a voucher's code."""
    amount_minor: AmountOrNoneMinor
    """> 0."""
    line_number: LineNumber | None = None
    """The line that gets the whole discount; None: it is allocated over what the other discounts leave."""


class OrderState(AggregateState, frozen=True, kw_only=True):
    """An order. lines_minor - discount_minor + added_tax_minor + shipping_minor = total_minor."""

    AGGREGATE_TYPE: ClassVar[str] = "order"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("placed_at",)

    order_id: Uuid
    """The order."""
    order_number: OrderNumber
    """The merchant's own number; unique within the merchant."""
    customer_id: CustomerId | None
    """The customer, by the merchant's own id; None for a guest."""
    currency: Currency
    """Currency of every amount, an ISO 4217 code."""
    status: OrderStatus
    """Derived from the lines."""
    source: Source
    """``storefront``, ``generator``, ``live`` or ``import:<data set>``."""
    reservation_id: str | None
    """The reservation that held its stock; None: it has none."""
    lines_minor: AmountOrNoneMinor
    """Sum of amount_minor over goods and service lines."""
    shipping_minor: AmountOrNoneMinor
    """Sum of amount_minor over shipping lines."""
    discount_minor: AmountOrNoneMinor
    """Sum of discount_minor over lines."""
    added_tax_minor: AmountOrNoneMinor
    """Sum of tax_minor over lines whose prices do not contain tax."""
    tax_minor: AmountOrNoneMinor
    """Sum of tax_minor over all lines, contained or added."""
    rounding_micro: int
    """Sum of rounding_micro over all lines."""
    total_minor: AmountOrNoneMinor
    """Sum of total_minor over all lines: what is owed before cancellations."""
    cancelled_minor: AmountOrNoneMinor
    """Sum of cancelled_minor over all lines."""
    cancelled_tax_minor: AmountOrNoneMinor
    """The tax in cancelled_minor."""
    placed_at: datetime
    """When the order was placed."""
    lines: list[OrderLine]
    """Ordered by line_number."""
    discounts: list[OrderDiscount]
    """Ordered by order_discount_id."""
    line_taxes: list[OrderLineTax] = msgspec.field(default_factory=list)
    """Taxes of lines with several taxes, ordered by (order_line_id, jurisdiction); they sum to the line's figures."""
