"""What happens to an order: placed, cancelled and fulfilled, wholly or in part.

Belongs here: functions from an order's state to its next state. Does not belong here: stock (`reservations.py`),
captures and refunds (`payments.py`, `refunds.py`) beyond the limits that they set for a cancellation.

Shipping lines follow the other lines: they count as rendered with the first fulfillment. They are closed when all other
lines are closed and nothing was shipped. Captured money is refunded, never cancelled. So the captured amount never
exceeds the owed amount, and each unit's money is given back in one way only.

A unit that was refunded before it was shipped is withdrawn when its refund completes. So every order ends: each unit is
fulfilled, cancelled or withdrawn, and exactly one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.events.merchant import MerchantState
from contracts.events.order import LineKind, OrderDiscount, OrderLine, OrderState, OrderStatus
from contracts.money import format_minor, portion
from contracts.text import counted
from oltp.domain.pricing import UnpricedLine, price_order, totals_of
from oltp.domain.refunds import NOTHING_REFUNDED, LineRefunds, left_by_refunds
from oltp.domain.taxes import cancelled_taxes, line_taxes
from oltp.domain.transitions import ORDER_TRANSITIONS, require_transition


def place_order(
    merchant: MerchantState,
    lines: Sequence[UnpricedLine],
    discounts: Sequence[OrderDiscount],
    *,
    order_id: str,
    order_number: str,
    customer_id: str | None,
    source: str,
    reservation_id: str | None,
    placed_at: datetime,
) -> OrderState:
    """Return the new order at version 1; InputError as in `price_order`, or when the merchant is not active."""
    if not merchant.is_active:
        raise ConflictError(f"Merchant {merchant.merchant_id} is not active; it takes no orders.")
    priced = price_order(merchant, lines, discounts)
    return OrderState(
        merchant_id=merchant.merchant_id,
        version=1,
        order_id=order_id,
        order_number=order_number,
        customer_id=customer_id,
        currency=merchant.currency,
        status=OrderStatus.PLACED,
        source=source,
        reservation_id=reservation_id,
        placed_at=placed_at,
        lines=priced,
        discounts=sorted(discounts, key=lambda discount: discount.order_discount_id),
        line_taxes=line_taxes(merchant, priced),
        **msgspec.structs.asdict(totals_of(priced)),
    )


def open_quantity(line: OrderLine) -> int:
    """Return the units that are neither fulfilled, cancelled nor withdrawn."""
    return line.quantity - line.fulfilled_quantity - line.cancelled_quantity - line.withdrawn_quantity


def to_ship_quantity(line: OrderLine, refunds: LineRefunds) -> int:
    """Return the units that are still to be shipped: open units without a requested or completed refund. Never below 0.

    Refunded units that did not come back are subtracted from the open units first, even if the customer meant units
    that were already shipped. So goods whose money was given back are not shipped as well.
    """
    return _open_without(line, refunds.quantity - refunds.restocked_quantity)


def held_quantity(line: OrderLine, refunds: LineRefunds) -> int:
    """Return the units that stock is held for, including units of a requested refund, because that refund may fail."""
    return _open_without(line, refunds.settled_quantity)


def _open_without(line: OrderLine, never_shipped: int) -> int:
    unshipped = open_quantity(line) + line.withdrawn_quantity
    return max(unshipped - max(never_shipped, line.withdrawn_quantity), 0)


def units_released(
    before: tuple[OrderState, Mapping[str, LineRefunds]], after: tuple[OrderState, Mapping[str, LineRefunds]]
) -> dict[str, int]:
    """Return the goods units, by variant id, that a cancellation or a completed refund no longer holds stock for.

    `before` and `after`: the order, and its refunds by order line id.
    """
    units: dict[str, int] = {}
    for old, new in zip(before[0].lines, after[0].lines, strict=True):
        was, is_now = (
            held_quantity(line, refunds.get(line.order_line_id, NOTHING_REFUNDED))
            for line, refunds in ((old, before[1]), (new, after[1]))
        )
        if was > is_now and new.kind is LineKind.GOODS and new.variant_id is not None:
            units[new.variant_id] = units.get(new.variant_id, 0) + was - is_now
    return units


def owed_minor(order: OrderState) -> int:
    """Return what the customer owes for the order, including tax, after cancellations, in minor units."""
    return order.total_minor - order.cancelled_minor


def status_of(lines: Sequence[OrderLine]) -> OrderStatus:
    """Return the status that follows from the lines' quantities."""
    is_open = any(open_quantity(line) for line in lines)
    is_shipped = any(line.fulfilled_quantity for line in lines)
    if is_open:
        return OrderStatus.PARTIALLY_FULFILLED if is_shipped else OrderStatus.PLACED
    return OrderStatus.FULFILLED if is_shipped else OrderStatus.CANCELLED


def cancel_order(
    order: OrderState,
    quantities: Mapping[str, int] | None,
    *,
    captured_minor: int = 0,
    refunds: Mapping[str, LineRefunds] | None = None,
) -> OrderState:
    """Return the order with units cancelled: `quantities` by order line id, or None for every open unit.

    `captured_minor` is the sum captured over all payments of the order; `refunds`: by order line id. Raises
    ConflictError when units are not open, were refunded, or their money was captured.
    """
    _require_open(order, "cancelled")
    given = refunds or {}
    withdrawn = msgspec.structs.replace(order, lines=_withdrawn(order.lines, given))
    chosen = _chosen(withdrawn, quantities)
    if quantities is None:
        # `_with_shipping_closed` closes the shipping lines.
        chosen = {line.order_line_id: open_quantity(line) for line in _carried(withdrawn.lines)}
    if not any(chosen.values()) and withdrawn == order:
        raise ConflictError(f"Order {order.order_number} has no open units to cancel.")
    lines = [_cancelled(line, chosen.get(line.order_line_id, 0), given) for line in withdrawn.lines]
    lines = _with_shipping_closed(lines, given, captured_minor)
    for line in lines:
        _check_refunds(line, given.get(line.order_line_id, NOTHING_REFUNDED))
    after = _next(order, _with_unpaid_cancelled(lines, given, captured_minor), given)
    if captured_minor > owed_minor(after):
        raise ConflictError(
            f"Order {order.order_number}: {format_minor(captured_minor, order.currency)} is captured, more than the "
            f"{format_minor(owed_minor(after), order.currency)} that would still be owed; refund instead of cancelling."
        )
    return after


def fulfill_order(
    order: OrderState, quantities: Mapping[str, int] | None, *, refunds: Mapping[str, LineRefunds] | None = None
) -> tuple[OrderState, dict[str, int]]:
    """Return the order with units fulfilled, and the fulfilled units by order line id, including shipping lines.

    `quantities` by order line id, or None for all units that are to be shipped; `refunds`: by order line id. Raises
    ConflictError when more units are named than are open and not refunded.
    """
    _require_open(order, "fulfilled")
    order = msgspec.structs.replace(order, lines=_withdrawn(order.lines, refunds or {}))
    chosen = _not_refunded(order, _chosen(order, quantities), refunds or {}, is_all=quantities is None)
    if not any(chosen.get(line.order_line_id, 0) for line in _carried(order.lines)):
        raise ConflictError(f"Order {order.order_number} has no open units to fulfill.")
    for line in order.lines:
        if line.kind is LineKind.SHIPPING and open_quantity(line):
            chosen[line.order_line_id] = open_quantity(line)
    lines = [
        msgspec.structs.replace(line, fulfilled_quantity=line.fulfilled_quantity + chosen.get(line.order_line_id, 0))
        for line in order.lines
    ]
    return _next(order, lines, refunds or {}), {line_id: quantity for line_id, quantity in chosen.items() if quantity}


def withdraw_refunded(
    order: OrderState, refunds: Mapping[str, LineRefunds], *, captured_minor: int = 0
) -> OrderState | None:
    """Return the order with refunded, never shipped units withdrawn (completed refunds only); None: there are none.

    `captured_minor` as in `cancel_order`: when no line is left to ship, shipping is cancelled unless it was captured,
    and an order of which nothing was shipped owes no more than was captured.
    """
    lines = _withdrawn(order.lines, refunds)
    if lines == order.lines:
        return None
    lines = _with_shipping_closed(lines, refunds, captured_minor)
    return _next(order, _with_unpaid_cancelled(lines, refunds, captured_minor), refunds)


def _carried(lines: Sequence[OrderLine]) -> Sequence[OrderLine]:
    """Return the lines that shipping follows: all other lines, or the shipping lines if the order has only those."""
    return [line for line in lines if line.kind is not LineKind.SHIPPING] or lines


def _withdrawn(lines: Sequence[OrderLine], refunds: Mapping[str, LineRefunds]) -> list[OrderLine]:
    """Return the lines with the open units of completed refunds withdrawn."""
    return [
        msgspec.structs.replace(line, withdrawn_quantity=line.withdrawn_quantity + open_quantity(line) - held)
        if open_quantity(line) > (held := held_quantity(line, refunds.get(line.order_line_id, NOTHING_REFUNDED)))
        else line
        for line in lines
    ]


def _require_open(order: OrderState, participle: str) -> None:
    if order.status in (OrderStatus.FULFILLED, OrderStatus.CANCELLED):
        target = OrderStatus.CANCELLED if participle == "cancelled" else OrderStatus.FULFILLED
        require_transition(ORDER_TRANSITIONS, order.status, target, f"Order {order.order_number}")


def _chosen(order: OrderState, quantities: Mapping[str, int] | None) -> dict[str, int]:
    """Return units by line id, each at least 1 and open; all open units when `quantities` is None."""
    by_id = {line.order_line_id: line for line in order.lines}
    if quantities is None:
        return {line_id: open_quantity(line) for line_id, line in by_id.items() if open_quantity(line)}
    for line_id, quantity in quantities.items():
        line = by_id.get(line_id)
        if line is None:
            raise NotFoundError(f"Order {order.order_number} has no line {line_id}.")
        if quantity < 1:
            raise InputError(f"Line {line.sku}: the quantity is {quantity}; it must be at least 1.")
        if quantity > open_quantity(line):
            raise ConflictError(f"Line {line.sku}: {counted(quantity, 'unit')} asked for, {open_quantity(line)} open.")
    return dict(quantities)


def _not_refunded(
    order: OrderState, chosen: Mapping[str, int], refunds: Mapping[str, LineRefunds], *, is_all: bool
) -> dict[str, int]:
    """Return `chosen` without refunded units if `is_all`; else raise ConflictError for refunded units."""
    allowed = dict(chosen)
    for line in order.lines:
        to_ship = to_ship_quantity(line, refunds.get(line.order_line_id, NOTHING_REFUNDED))
        if allowed.get(line.order_line_id, 0) <= to_ship:
            continue
        if not is_all:
            raise ConflictError(
                f"Line {line.sku}: {counted(allowed[line.order_line_id], 'unit')} asked for, {to_ship} open "
                "and not refunded."
            )
        allowed[line.order_line_id] = to_ship
    return allowed


def _cancelled(line: OrderLine, quantity: int, refunds: Mapping[str, LineRefunds]) -> OrderLine:
    """Return the line with units cancelled; the last units take the whole amount left, so that no penny remains."""
    if quantity == 0:
        return line
    refunded = refunds.get(line.order_line_id, NOTHING_REFUNDED)
    cancelled = line.cancelled_quantity + quantity
    amount, tax = left_by_refunds(line, refunded, cancelled)
    # Never more than the line has left, even if refunds have named larger amounts.
    amount = max(min(amount, line.total_minor - refunded.amount_minor), line.cancelled_minor)
    tax = max(min(tax, line.tax_minor - refunded.tax_minor), line.cancelled_tax_minor)
    if cancelled + refunded.quantity < line.quantity:
        # Never less than before: a refund that failed meanwhile may have made earlier units the last ones.
        amount = max(portion(line.total_minor, cancelled, line.quantity), line.cancelled_minor)
        tax = max(portion(line.tax_minor, cancelled, line.quantity), line.cancelled_tax_minor)
    return msgspec.structs.replace(line, cancelled_quantity=cancelled, cancelled_minor=amount, cancelled_tax_minor=tax)


def _with_shipping_closed(
    lines: Sequence[OrderLine], refunds: Mapping[str, LineRefunds], captured_minor: int
) -> list[OrderLine]:
    """Close the shipping lines too, when no other line is open and nothing was shipped.

    They are cancelled with the other lines. If some of the other lines were refunded, the shipping lines may be
    captured or refunded too. Then they are withdrawn, and their refund has to be requested like any other.
    """
    rest = [line for line in lines if line.kind is not LineKind.SHIPPING]
    if not rest or any(open_quantity(line) or line.fulfilled_quantity for line in rest):
        return list(lines)
    closed = [
        _cancelled(line, open_quantity(line), refunds) if line.kind is LineKind.SHIPPING else line for line in lines
    ]
    owed = sum(line.total_minor - line.cancelled_minor for line in closed)
    is_untouched = not any(
        line.kind is LineKind.SHIPPING and open_quantity(line) and line.order_line_id in refunds for line in lines
    )
    if not any(line.withdrawn_quantity for line in rest) or (captured_minor <= owed and is_untouched):
        return closed
    return [
        msgspec.structs.replace(line, withdrawn_quantity=line.withdrawn_quantity + open_quantity(line))
        if line.kind is LineKind.SHIPPING
        else line
        for line in lines
    ]


def _with_unpaid_cancelled(
    lines: Sequence[OrderLine], refunds: Mapping[str, LineRefunds], captured_minor: int
) -> list[OrderLine]:
    """Cancel what was never captured of an order that ends with nothing shipped: nobody owes it any more.

    It is left where withdrawn units were captured in part, and their refund gave that part back.
    """
    unpaid = sum(line.total_minor - line.cancelled_minor for line in lines) - captured_minor
    if status_of(lines) is not OrderStatus.CANCELLED or unpaid <= 0:
        return list(lines)
    after: list[OrderLine] = []
    for line in lines:
        refunded = refunds.get(line.order_line_id, NOTHING_REFUNDED)
        amount_left = line.total_minor - line.cancelled_minor - refunded.amount_minor
        amount = max(min(amount_left, unpaid), 0)
        unpaid -= amount
        tax_left = line.tax_minor - line.cancelled_tax_minor - refunded.tax_minor
        after.append(
            msgspec.structs.replace(
                line,
                cancelled_minor=line.cancelled_minor + amount,
                cancelled_tax_minor=line.cancelled_tax_minor
                + (portion(tax_left, amount, amount_left) if amount else 0),
            )
        )
    return after


def _check_refunds(line: OrderLine, refunds: LineRefunds) -> None:
    """Check that no unit is cancelled and refunded. Check amounts too, because a failed refund can shift a penny."""
    if refunds.quantity == 0 and refunds.amount_minor == 0:
        return
    if line.cancelled_quantity == line.quantity:
        raise ConflictError(f"Line {line.sku}: money was given back for it; refund its units instead of cancelling.")
    amount_left = line.total_minor - line.cancelled_minor - refunds.amount_minor
    tax_left = line.tax_minor - line.cancelled_tax_minor - refunds.tax_minor
    if line.cancelled_quantity + refunds.quantity > line.quantity or not 0 <= tax_left <= amount_left:
        units = counted(refunds.quantity, "unit is", "units are")
        raise ConflictError(f"Line {line.sku}: {units} refunded and cannot be cancelled as well.")


def _next(order: OrderState, lines: Sequence[OrderLine], refunds: Mapping[str, LineRefunds]) -> OrderState:
    status = status_of(lines)
    require_transition(ORDER_TRANSITIONS, order.status, status, f"Order {order.order_number}")
    return msgspec.structs.replace(
        order,
        version=order.version + 1,
        status=status,
        cancelled_minor=sum(line.cancelled_minor for line in lines),
        cancelled_tax_minor=sum(line.cancelled_tax_minor for line in lines),
        lines=list(lines),
        line_taxes=cancelled_taxes(
            order.line_taxes, order.lines, lines, {line_id: line.taxes for line_id, line in refunds.items()}
        ),
    )
