"""The price of an order: amounts, discounts, tax and shipping, line by line, in integers that sum exactly.

Belongs here: computing order lines and totals from requested lines and the merchant's configuration. Does not belong
here: finding prices (the command re-reads them), and later changes of an order.

Each line is rounded once (half away from zero); `rounding_micro` holds the rounding difference. A discount that names a
line is subtracted from that line. The other discounts are allocated to goods and service lines, in proportion to the
amounts left after named discounts, by the largest remainder method. Tax is computed per line on the amount after
discount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.errors import InputError
from contracts.events.common import Value
from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import LineKind, OrderDiscount, OrderLine
from contracts.limits import AMOUNT_MICRO_MAX
from contracts.money import allocate, format_minor, line_amount, micro_per_minor
from oltp.domain.taxes import rates_by_category, require_rates, taxes_on

SHIPPING_SKU = "SHIPPING"
SHIPPING_TITLE = "Shipping"
SHIPPING_TAX_CATEGORY = "shipping"
"""Tax category of every shipping line; a merchant that charges shipping must declare a rate for it."""


class UnpricedLine(Value, frozen=True, kw_only=True):
    """A line before pricing; `unit_price_micro` is exact, per unit, in the merchant's currency."""

    order_line_id: str
    kind: LineKind
    variant_id: str | None
    sku: str
    title: str
    quantity: int
    unit_price_micro: int
    price_source: str
    price_reason: str | None
    tax_category: str
    is_tax_inclusive: bool | None = None
    """Whether the price contains the tax; None: the merchant's setting applies."""


class OrderTotals(Value, frozen=True, kw_only=True):
    """Sums over an order's lines; the fields are fields of OrderState."""

    lines_minor: int
    shipping_minor: int
    discount_minor: int
    added_tax_minor: int
    tax_minor: int
    rounding_micro: int
    total_minor: int
    cancelled_minor: int
    cancelled_tax_minor: int


def shipping_fee_lines(
    merchant: MerchantState, lines: Sequence[UnpricedLine], discount_minor: int, order_line_id: str
) -> list[UnpricedLine]:
    """Return the merchant's own shipping line, or [] for services only and for orders with free shipping.

    Shipping is free when goods and services after discount reach `free_shipping_from_minor`.
    """
    if merchant.shipping_fee_minor == 0 or not any(line.kind is LineKind.GOODS for line in lines):
        return []
    amounts = [line_amount(line.quantity, line.unit_price_micro, merchant.currency)[0] for line in lines]
    free_from = merchant.free_shipping_from_minor
    if free_from is not None and sum(amounts) - discount_minor >= free_from:
        return []
    fee_micro = merchant.shipping_fee_minor * micro_per_minor(merchant.currency)
    return [shipping_line(order_line_id, fee_micro, "merchant", None)]


def shipping_line(order_line_id: str, unit_price_micro: int, source: str, reason: str | None) -> UnpricedLine:
    """Return a shipping line with the given price; `source` and `reason` say where the price comes from."""
    return UnpricedLine(
        order_line_id=order_line_id,
        kind=LineKind.SHIPPING,
        variant_id=None,
        sku=SHIPPING_SKU,
        title=SHIPPING_TITLE,
        quantity=1,
        unit_price_micro=unit_price_micro,
        price_source=source,
        price_reason=reason,
        tax_category=SHIPPING_TAX_CATEGORY,
    )


def price_order(
    merchant: MerchantState, lines: Sequence[UnpricedLine], discounts: Sequence[OrderDiscount] = ()
) -> list[OrderLine]:
    """Return the lines with prices, discounts and tax, numbered from 1 in input order.

    Raises InputError for a quantity below 1; a negative price; a discount that is 0 or less, or above its line, or
    above the goods and services; a tax category for which the merchant declares no rate; or amounts beyond
    `AMOUNT_MICRO_MAX`.
    """
    if not lines:
        raise InputError("An order needs at least one line.")
    for line in lines:
        _check(line)
    amounts = [line_amount(line.quantity, line.unit_price_micro, merchant.currency) for line in lines]
    shares = _discount_shares(lines, [amount for amount, _ in amounts], discounts, merchant.currency)
    rates = rates_by_category(merchant)
    priced = [
        _priced(merchant, rates, number, line, amount, share)
        for number, (line, amount, share) in enumerate(zip(lines, amounts, shares, strict=True), start=1)
    ]
    _check_totals(priced, merchant.currency)
    return priced


def totals_of(lines: Sequence[OrderLine]) -> OrderTotals:
    """Return the order's totals; each is a plain sum over its lines."""
    return OrderTotals(
        lines_minor=sum(line.amount_minor for line in lines if line.kind is not LineKind.SHIPPING),
        shipping_minor=sum(line.amount_minor for line in lines if line.kind is LineKind.SHIPPING),
        discount_minor=sum(line.discount_minor for line in lines),
        added_tax_minor=sum(line.tax_minor for line in lines if not line.is_tax_inclusive),
        tax_minor=sum(line.tax_minor for line in lines),
        rounding_micro=sum(line.rounding_micro for line in lines),
        total_minor=sum(line.total_minor for line in lines),
        cancelled_minor=sum(line.cancelled_minor for line in lines),
        cancelled_tax_minor=sum(line.cancelled_tax_minor for line in lines),
    )


def _check(line: UnpricedLine) -> None:
    if line.quantity < 1:
        raise InputError(f"Line {line.sku}: the quantity is {line.quantity}; it must be at least 1.")
    if line.unit_price_micro < 0:
        raise InputError(f"Line {line.sku}: the price is negative; book an adjustment instead.")
    if line.quantity * line.unit_price_micro > AMOUNT_MICRO_MAX:
        raise InputError(f"Line {line.sku}: {line.quantity} units at this price are more than an order can hold.")


def _check_totals(lines: Sequence[OrderLine], currency: str) -> None:
    """Check that the order's totals, before discounts and after tax, keep the limit of an amount."""
    totals = totals_of(lines)
    largest_minor = max(totals.lines_minor + totals.shipping_minor, totals.total_minor)
    if largest_minor * micro_per_minor(currency) > AMOUNT_MICRO_MAX:
        most = format_minor(AMOUNT_MICRO_MAX // micro_per_minor(currency), currency)
        raise InputError(
            f"The order comes to {format_minor(largest_minor, currency)} {currency}; an order holds at most {most}."
        )


def _discount_shares(
    lines: Sequence[UnpricedLine], amounts: Sequence[int], discounts: Sequence[OrderDiscount], currency: str
) -> list[int]:
    """Return each line's discount. None exceeds its line, because the shared discount is at most the sum left."""
    named = _named_discounts(lines, amounts, discounts, currency)
    weights = [
        0 if line.kind is LineKind.SHIPPING else amount - own
        for line, amount, own in zip(lines, amounts, named, strict=True)
    ]
    shared_minor = sum(discount.amount_minor for discount in discounts if discount.line_number is None)
    if shared_minor > sum(weights):
        raise InputError(
            f"The discounts are {format_minor(shared_minor + sum(named), currency)}, more than the goods and services "
            f"of {format_minor(sum(weights) + sum(named), currency)}."
        )
    shares = allocate(shared_minor, weights) if shared_minor else [0] * len(weights)
    return [own + share for own, share in zip(named, shares, strict=True)]


def _named_discounts(
    lines: Sequence[UnpricedLine], amounts: Sequence[int], discounts: Sequence[OrderDiscount], currency: str
) -> list[int]:
    """Return for each line the sum of the discounts that name it."""
    named = [0] * len(lines)
    for discount in discounts:
        if discount.amount_minor <= 0:
            raise InputError(f"Discount {discount.code}: amount_minor must be above 0.")
        if discount.line_number is None:
            continue
        place = discount.line_number - 1
        if not 0 <= place < len(lines) or lines[place].kind is LineKind.SHIPPING:
            most = sum(line.kind is not LineKind.SHIPPING for line in lines)
            raise InputError(
                f"Discount {discount.code}: line_number is {discount.line_number}; it must be 1 to {most}."
            )
        if discount.amount_minor > amounts[place] - named[place]:
            raise InputError(
                f"Discount {discount.code}: amount_minor is {format_minor(discount.amount_minor, currency)}; line "
                f"{discount.line_number} allows at most {format_minor(amounts[place] - named[place], currency)}."
            )
        named[place] += discount.amount_minor
    return named


def _priced(
    merchant: MerchantState,
    declared: Mapping[str, list[TaxRate]],
    number: int,
    line: UnpricedLine,
    amount: tuple[int, int],
    discount_minor: int,
) -> OrderLine:
    rates = require_rates(merchant, declared, line.tax_category, f"Line {line.sku}: ")
    amount_minor, rounding_micro = amount
    net_minor = amount_minor - discount_minor
    is_inclusive = merchant.is_tax_inclusive if line.is_tax_inclusive is None else line.is_tax_inclusive
    tax_minor = sum(taxes_on(net_minor, rates, is_inclusive=is_inclusive))
    total_minor = net_minor if is_inclusive else net_minor + tax_minor
    return OrderLine(
        order_line_id=line.order_line_id,
        line_number=number,
        kind=line.kind,
        variant_id=line.variant_id,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        unit_price_micro=line.unit_price_micro,
        price_source=line.price_source,
        price_reason=line.price_reason,
        amount_minor=amount_minor,
        rounding_micro=rounding_micro,
        discount_minor=discount_minor,
        jurisdiction=merchant.jurisdiction,
        tax_category=line.tax_category,
        rate_ppm=sum(rate.rate_ppm for rate in rates),
        is_tax_inclusive=is_inclusive,
        taxable_minor=total_minor - tax_minor,
        tax_minor=tax_minor,
        total_minor=total_minor,
        cancelled_quantity=0,
        cancelled_minor=0,
        cancelled_tax_minor=0,
        fulfilled_quantity=0,
    )
