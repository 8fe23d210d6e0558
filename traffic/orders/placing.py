"""Computing the placed order for an order of a file, and the command that places it; pure.

Belongs here: lines, discounts, taxes and shipping, and the check of every amount that the file states. Does not belong
here: later events of the order (`life.py`).

The domain's own functions compute all amounts. Amounts in the file are only compared: if one differs by more than the
allowance, the order is rejected with both values. A total within the allowance is booked as stated: if it is higher
than the computed total, the difference is a separate line (`ROUNDING`); if it is lower, an adjustment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.merchant import MerchantState
from contracts.events.order import LineKind, OrderDiscount, OrderState
from contracts.money import micro_per_minor
from oltp.commands.place_order import DiscountInput, OrderLineInput, PlaceOrder, PriceOverride, with_tax_of
from oltp.domain.orders import place_order
from oltp.domain.pricing import UnpricedLine, shipping_line
from traffic.orders.amounts import UNTAXED, category_of, micro_of, minor_of, shown
from traffic.orders.format import Line, OrderRecord
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import EXTRA_CATEGORIES, LOCATION, ROUNDING_SKU, SOURCE, UNALLOCATED_SKU, order_id

PRICE_REASON = "price in the file"
LINE_DISCOUNT = "line discount"
EXTRA_REASONS = {
    UNALLOCATED_SKU: "paid above the order",
    ROUNDING_SKU: "the stated total is above that of the rounding rule",
}
Extras = tuple[tuple[str, int], ...]
"""(SKU, amount in minor units) of lines that the import adds to the file's lines."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The order as it would be placed; its order line ids are the line numbers."""

    order: OrderState
    command: PlaceOrder
    numbers: tuple[int, ...]
    """For each line of the file, the number of the order's line."""
    extras: dict[str, str]
    """Order line id by SKU, for lines that the import added."""
    below_minor: int = 0
    """By how many minor units the stated total is below the computed total, within the allowance."""

    @property
    def stated_minor(self) -> int:
        """Return the order's total in the books in minor units, including the rounding adjustment."""
        return self.order.total_minor - self.below_minor


def placed_order(record: OrderRecord, merchant: MerchantState, allowance: Decimal, unallocated_minor: int) -> Placed:
    """Return the order; RejectedError when it cannot be placed, or when an amount in the file differs."""
    extras: Extras = ((UNALLOCATED_SKU, unallocated_minor),) if unallocated_minor else ()
    if not record.lines:
        if not unallocated_minor or record.discounts:
            raise RejectedError("order_without_lines", "an order has lines, or a payment that was captured")
        return _check_lineless(record, _place(record, merchant, extras))
    plain = _place(record, merchant, ())
    allowed_minor = int(allowance * 10**6) // micro_per_minor(record.currency)
    above_minor = _check_amounts(record, plain, allowed_minor)
    if above_minor > 0:
        extras = (*extras, (ROUNDING_SKU, above_minor))
    whole = _place(_with_own_discounts(record, plain), merchant, extras) if extras else plain
    return Placed(**{**vars(whole), "below_minor": max(-above_minor, 0)})


def _check_lineless(record: OrderRecord, placed: Placed) -> Placed:
    if record.total is not None and minor_of(record.total, record.currency, "total"):
        raise RejectedError("order_without_lines", "its total is not 0 and no line says what it was for")
    return placed


def _place(record: OrderRecord, merchant: MerchantState, extras: Extras) -> Placed:
    rest = [(place, line) for place, line in enumerate(record.lines) if line.kind is not LineKind.SHIPPING]
    shipping = [(place, line) for place, line in enumerate(record.lines) if line.kind is LineKind.SHIPPING]
    number_of = {place: number for number, (place, _) in enumerate(rest, start=1)}
    first = len(rest) + len(extras) + 1
    number_of |= {place: number for number, (place, _) in enumerate(shipping, start=first)}
    numbers = tuple(number_of[place] for place in range(len(record.lines)))
    command = PlaceOrder(
        merchant_id=record.merchant_id,
        order_number=record.order_number,
        customer_id=record.customer_id,
        location_id=LOCATION,
        lines=[*(_line(record, place, line) for place, line in rest), *_extra_lines(record, extras)],
        discounts=list(_discounts(record, numbers)),
        shipping=[_charge(record, place, line) for place, line in shipping],
        source=SOURCE,
        order_id=order_id(record),
    )
    kinds = [line.kind for _, line in rest] + [LineKind.SERVICE] * len(extras)
    order = _rehearsed(command, merchant, kinds, record)
    extra_ids = {sku: str(len(rest) + place) for place, (sku, _) in enumerate(extras, start=1)}
    return Placed(order=order, command=command, numbers=numbers, extras=extra_ids)


def _line(record: OrderRecord, place: int, line: Line) -> OrderLineInput:
    if not line.sku:
        raise RejectedError("sku_missing", f"line {place + 1} is {line.kind} without an SKU")
    if line.sku in EXTRA_REASONS:
        raise RejectedError("sku_reserved", f"line {place + 1}: {line.sku} is what the import itself calls a line")
    price_micro = micro_of(line.unit_price, f"line {place + 1}: unit_price")
    return OrderLineInput(
        sku=line.sku, quantity=line.quantity, price_override=_override(record, line, price_micro, PRICE_REASON)
    )


def _charge(record: OrderRecord, place: int, line: Line) -> PriceOverride:
    """Return one shipping charge for a line, even if the line counts several parcels."""
    price_micro = line.quantity * micro_of(line.unit_price, f"line {place + 1}: unit_price")
    return _override(record, line, price_micro, line.title or line.sku or PRICE_REASON)


def _override(record: OrderRecord, line: Line, price_micro: int, reason: str) -> PriceOverride:
    return PriceOverride(
        unit_price_micro=price_micro,
        source=SOURCE,
        reason=reason,
        tax_category=category_of(line.taxes),
        is_tax_inclusive=record.is_tax_inclusive,
    )


def _extra_lines(record: OrderRecord, extras: Extras) -> Iterator[OrderLineInput]:
    for sku, amount_minor in extras:
        price = PriceOverride(
            unit_price_micro=amount_minor * micro_per_minor(record.currency),
            source=SOURCE,
            reason=EXTRA_REASONS[sku],
            tax_category=EXTRA_CATEGORIES[sku],
            is_tax_inclusive=record.is_tax_inclusive,
        )
        yield OrderLineInput(sku=sku, quantity=1, price_override=price)


def _discounts(record: OrderRecord, numbers: Sequence[int]) -> Iterator[DiscountInput]:
    for place, line in enumerate(record.lines):
        amount_minor = minor_of(line.discount, record.currency, f"line {place + 1}: discount")
        if amount_minor:
            yield DiscountInput(code=LINE_DISCOUNT, amount_minor=amount_minor, line_number=numbers[place])
    for discount in record.discounts:
        amount_minor = minor_of(discount.amount, record.currency, f"discount {discount.code}")
        if discount.line is not None and discount.line > len(numbers):
            raise RejectedError("line_not_known", f"discount {discount.code} is on line {discount.line}")
        number = None if discount.line is None else numbers[discount.line - 1]
        if amount_minor:
            yield DiscountInput(code=discount.code, amount_minor=amount_minor, line_number=number)


def _with_own_discounts(record: OrderRecord, plain: Placed) -> OrderRecord:
    """Return the order with its order discounts split over its own lines, so that added lines get no share."""
    left = [line.discount_minor for line in plain.order.lines]
    for named in plain.command.discounts:
        if named.line_number is not None:
            left[named.line_number - 1] -= named.amount_minor
    own = [discount for discount in record.discounts if discount.line is not None]
    for discount in record.discounts:
        rest_minor = 0 if discount.line is not None else minor_of(discount.amount, record.currency, "discount")
        for place, number in enumerate(plain.numbers, start=1):
            share_minor = min(rest_minor, left[number - 1])
            if share_minor:
                rest_minor -= share_minor
                left[number - 1] -= share_minor
                share = Decimal(share_minor * micro_per_minor(record.currency)).scaleb(-6)
                own.append(msgspec.structs.replace(discount, amount=share, line=place))
    return msgspec.structs.replace(record, discounts=own)


def _rehearsed(
    command: PlaceOrder, merchant: MerchantState, kinds: Sequence[LineKind], record: OrderRecord
) -> OrderState:
    """Return the order that the domain computes for the command, with line numbers as line ids."""
    lines = [
        _unpriced(number, line, kind)
        for number, (line, kind) in enumerate(zip(command.lines, kinds, strict=True), start=1)
    ]
    for number, price in enumerate(command.shipping or (), start=len(lines) + 1):
        line = shipping_line(str(number), price.unit_price_micro, SOURCE, price.reason)
        lines.append(with_tax_of(line, price))
    discounts = [
        OrderDiscount(order_discount_id=str(place), **msgspec.structs.asdict(discount))
        for place, discount in enumerate(command.discounts)
    ]
    try:
        return place_order(
            merchant,
            lines,
            discounts,
            order_id=order_id(record),
            order_number=command.order_number,
            customer_id=command.customer_id,
            source=SOURCE,
            reservation_id=None,
            placed_at=record.placed_at,
        )
    except (InputError, ConflictError) as error:
        raise RejectedError("order_not_possible", str(error)) from None


def _unpriced(number: int, line: OrderLineInput, kind: LineKind) -> UnpricedLine:
    price = line.price_override
    assert price is not None
    unpriced = UnpricedLine(
        order_line_id=str(number),
        kind=kind,
        variant_id=line.sku,
        sku=line.sku,
        title="",
        quantity=line.quantity,
        unit_price_micro=price.unit_price_micro,
        price_source=SOURCE,
        price_reason=price.reason,
        tax_category=UNTAXED,
    )
    return with_tax_of(unpriced, price)


def _check_amounts(record: OrderRecord, placed: Placed, allowed_minor: int) -> int:
    """Return stated total minus computed total; RejectedError when an amount differs by more than `allowed_minor`."""
    for what, stated, own_minor in _stated(record, placed):
        stated_minor = minor_of(stated, record.currency, what)
        if abs(stated_minor - own_minor) > allowed_minor:
            raise RejectedError(
                "amount_differs",
                f"{what} is {shown(stated_minor, record.currency)} in the file and "
                f"{shown(own_minor, record.currency)} by the books' rule (each line rounded once, half away from zero)",
            )
    if record.total is None:
        return 0
    return minor_of(record.total, record.currency, "total") - placed.order.total_minor


def _stated(record: OrderRecord, placed: Placed) -> Iterator[tuple[str, Decimal, int]]:
    """Yield (name, stated amount, computed minor units) of every amount that the file states."""
    order = placed.order
    for place, (line, number) in enumerate(zip(record.lines, placed.numbers, strict=True), start=1):
        own = order.lines[number - 1]
        if line.tax is not None:
            yield f"line {place}: tax", line.tax, own.tax_minor
        if line.total is not None:
            yield f"line {place}: total", line.total, own.total_minor
    for name, own_minor in (
        ("tax", order.tax_minor),
        ("discount", order.discount_minor),
        ("shipping", order.shipping_minor),
        ("total", order.total_minor),
    ):
        stated = getattr(record, name)
        if stated is not None:
            yield name, stated, own_minor
