"""How much may be refunded for an order's lines, and what happens to a refund.

Belongs here: refund amounts per line, limits per line and per payment, the refund's states. Does not belong here: the
provider, the payment's own counters (`payments.py`), stock.

Amounts. The first c cancelled units of a line carry portion(total, c), counted from the bottom. Refunds count from the
top: the first r refunded units carry total - portion(total, quantity - r). Both amounts are cumulative. They do not
overlap while c + r <= quantity, in any order of cancellations and refunds; when c + r = quantity, they sum to the line
exactly. The tax is computed in the same way.

A caller may name the amount instead. A line that was captured in part, or over two payments, is refunded in several
refund lines; one of them names the units, the others name 0 units. The tax is then the amount's share of the tax that
the line has left. A named amount never changes what other units cost: they carry their own portion, as if the units
with a named amount had carried theirs (the lowest of the uncancelled portions). A refund never exceeds what the line
has left; a refund of all that is left takes all the tax that is left. When no amount was named, the last refund gives
back exactly what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, IllegalTransitionError, InputError, NotFoundError, OverRefundError
from contracts.events.common import Value
from contracts.events.order import LineKind, OrderLine, OrderLineTax, OrderState
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundLine, RefundLineTax, RefundState, RefundStatus
from contracts.money import format_minor, in_major_units, portion
from contracts.text import counted
from oltp.domain.disputes import taken_back_minor
from oltp.domain.taxes import by_line, given_back
from oltp.domain.transitions import REFUND_TRANSITIONS, require_transition


class LineRefunds(Value, frozen=True, kw_only=True):
    """The refunds of one order line, summed up: requested and completed refunds, not failed ones."""

    quantity: int
    amount_minor: int
    tax_minor: int
    restocked_quantity: int
    named_quantity: int = 0
    """The part of these sums (units, amount, tax) from refund lines whose amount was named."""
    named_minor: int = 0
    named_tax_minor: int = 0
    settled_quantity: int = 0
    """Units of completed refunds that did not come back; those that were not shipped yet never will be."""
    returned_quantity: int = 0
    """Units that came back with refunds that failed after they were completed: in stock, and not refunded."""
    taxes: dict[str, int] = msgspec.field(default_factory=dict)
    """For a line with several taxes: the parts of `tax_minor`, in minor units by jurisdiction."""

    @property
    def counted_quantity(self) -> int:
        """Return the units that were refunded at their price, without a named amount."""
        return self.quantity - self.named_quantity

    @property
    def counted_minor(self) -> int:
        """Return the amount that was refunded for these units."""
        return self.amount_minor - self.named_minor

    @property
    def counted_tax_minor(self) -> int:
        """Return the tax in this amount."""
        return self.tax_minor - self.named_tax_minor


NOTHING_REFUNDED = LineRefunds(quantity=0, amount_minor=0, tax_minor=0, restocked_quantity=0)


class RefundRequest(Value, frozen=True, kw_only=True):
    """Units of one order line to be refunded; `is_restocked`: they came back and can be sold again.

    `amount_minor`: the amount to give back, including tax; None: the price of the units.
    """

    refund_line_id: str
    order_line_id: str
    quantity: int
    is_restocked: bool
    amount_minor: int | None = None


def refund_amounts(
    line: OrderLine,
    refunds: LineRefunds,
    quantity: int,
    amount_minor: int | None = None,
    *,
    currency: str | None = None,
) -> tuple[int, int]:
    """Return (amount_minor, tax_minor) of a refund of `quantity` more units of the line; the amount includes the tax.

    `amount_minor`: refund this amount instead; then `quantity` may be 0. `currency`: the order's, for error messages.
    Raises OverRefundError when the line has fewer units or less money left: charged minus cancelled minus refunded.
    """
    units_left = line.quantity - line.cancelled_quantity - refunds.quantity
    quantity_min = 1 if amount_minor is None else 0
    if quantity < quantity_min:
        raise InputError(f"Line {line.sku}: the quantity is {quantity}; it must be at least {quantity_min}.")
    if quantity > units_left:
        raise OverRefundError(
            f"Line {line.sku}: {counted(quantity, 'unit')} asked for, {units_left} can still be refunded."
        )
    amount_left = line.total_minor - line.cancelled_minor - refunds.amount_minor
    tax_left = line.tax_minor - line.cancelled_tax_minor - refunds.tax_minor
    if amount_minor is not None:
        if amount_minor > amount_left:
            asked, left = (in_major_units("amount_minor", one, currency) or one for one in (amount_minor, amount_left))
            raise OverRefundError(f"Line {line.sku}: {asked} asked for, {left} can be refunded.")
        return _named_amounts(line, amount_minor, amount_left, tax_left)
    cost, cost_tax = _cost(line, refunds, quantity, is_last=quantity == units_left)
    # After a refund from the middle has failed, the computed cost may be negative; then the amount is 0.
    amount = min(max(cost, 0), amount_left)
    if amount == amount_left:
        return amount_left, tax_left
    # The tax left must not exceed the amount left, so this refund takes at least the difference. Cancellations obey
    # this too.
    tax_least = max(amount - (amount_left - tax_left), 0)
    return amount, min(max(cost_tax, tax_least), tax_left, amount)


def left_by_refunds(line: OrderLine, refunds: LineRefunds, cancelled_quantity: int) -> tuple[int, int]:
    """Return (amount_minor, tax_minor) of all units that are not refunded.

    Units that were refunded with a named amount count with their own portion, directly above `cancelled_quantity`
    cancelled units.
    """
    kept = cancelled_quantity + refunds.named_quantity

    def left(total: int, counted: int) -> int:
        named = portion(total, kept, line.quantity) - portion(total, cancelled_quantity, line.quantity)
        return total - counted - named

    return left(line.total_minor, refunds.counted_minor), left(line.tax_minor, refunds.counted_tax_minor)


def _cost(line: OrderLine, refunds: LineRefunds, quantity: int, *, is_last: bool) -> tuple[int, int]:
    """Return (amount_minor, tax_minor) of `quantity` more units; the last units take all that is left."""
    if is_last:
        amount, tax = left_by_refunds(line, refunds, line.cancelled_quantity)
        return amount - line.cancelled_minor, tax - line.cancelled_tax_minor
    kept = line.quantity - refunds.counted_quantity - quantity
    return (
        line.total_minor - portion(line.total_minor, kept, line.quantity) - refunds.counted_minor,
        line.tax_minor - portion(line.tax_minor, kept, line.quantity) - refunds.counted_tax_minor,
    )


def _named_amounts(line: OrderLine, amount_minor: int, amount_left: int, tax_left: int) -> tuple[int, int]:
    """Return the amount and its share of the tax that is left; then the tax left never exceeds the amount left."""
    if amount_minor < 1:
        raise InputError(f"Line {line.sku}: the amount to refund must be above 0.")
    return amount_minor, portion(tax_left, amount_minor, amount_left)


def request_refund(
    order: OrderState,
    payment: PaymentState,
    requests: Sequence[RefundRequest],
    *,
    refund_id: str,
    line_refunds: Mapping[str, LineRefunds],
    pending_minor: int,
    reason: str,
    external_reference: str | None,
    requested_at: datetime,
    gift_card_id: str | None = None,
) -> RefundState:
    """Return the new refund at version 1, with every amount computed.

    `line_refunds`: earlier refunds by order line id; `pending_minor`: the sum of the payment's requested, not yet
    completed refunds. Raises OverRefundError when the amount exceeds what is left of a line or of the payment,
    ConflictError for restocking units that were never shipped.
    """
    _check_request(order, payment, requests)
    lines, taxes = _refund_lines(order, requests, line_refunds)
    amount_minor = sum(line.amount_minor for line in lines)
    left_minor = payment.captured_minor - payment.refunded_minor - pending_minor - taken_back_minor(payment)
    if amount_minor > left_minor:
        raise OverRefundError(
            f"Payment {payment.payment_id}: {format_minor(amount_minor, payment.currency)} asked for, "
            f"{format_minor(left_minor, payment.currency)} of what was captured can still be refunded."
        )
    return RefundState(
        merchant_id=order.merchant_id,
        version=1,
        refund_id=refund_id,
        order_id=order.order_id,
        payment_id=payment.payment_id,
        customer_id=order.customer_id,
        currency=order.currency,
        status=RefundStatus.REQUESTED,
        reason=reason,
        external_reference=external_reference,
        amount_minor=amount_minor,
        tax_minor=sum(line.tax_minor for line in lines),
        provider_reference=None,
        failure_reason=None,
        requested_at=requested_at,
        completed_at=None,
        lines=sorted(lines, key=lambda line: line.refund_line_id),
        line_taxes=sorted(taxes, key=lambda tax: (tax.refund_line_id, tax.jurisdiction)),
        gift_card_id=gift_card_id or payment.gift_card_id,
    )


def with_settled(refunds: Mapping[str, LineRefunds], refund: RefundState) -> dict[str, LineRefunds]:
    """Return the refunds by order line id after `refund`, which they contain as requested, has completed."""
    after = dict(refunds)
    for line in refund.lines:
        if not line.is_restocked:
            known = after.get(line.order_line_id, NOTHING_REFUNDED)
            after[line.order_line_id] = msgspec.structs.replace(
                known, settled_quantity=known.settled_quantity + line.quantity
            )
    return after


def with_requested(refunds: Mapping[str, LineRefunds], refund: RefundState) -> dict[str, LineRefunds]:
    """Return the refunds by order line id with `refund`, which is requested now, added."""
    after = dict(refunds)
    for line in refund.lines:
        own = [tax for tax in refund.line_taxes if tax.refund_line_id == line.refund_line_id]
        after[line.order_line_id] = _plus(after.get(line.order_line_id, NOTHING_REFUNDED), line, own)
    return after


def complete_refund(refund: RefundState, provider_reference: str | None, completed_at: datetime) -> RefundState:
    """Return the refund completed; the caller must also update the payment (`payments.refund_payment`)."""
    require_transition(REFUND_TRANSITIONS, refund.status, RefundStatus.COMPLETED, f"Refund {refund.refund_id}")
    return msgspec.structs.replace(
        refund,
        version=refund.version + 1,
        status=RefundStatus.COMPLETED,
        provider_reference=provider_reference,
        completed_at=completed_at,
    )


def fail_refund(refund: RefundState, failure_reason: str, failed_at: datetime) -> RefundState:
    """Return a refund that was not paid as failed; its units and amounts may be refunded again."""
    if refund.status is RefundStatus.COMPLETED:
        raise IllegalTransitionError(
            f"Refund {refund.refund_id} is completed; only its provider can say that it failed."
        )
    return _failed(refund, failure_reason, failed_at)


def reverse_refund(refund: RefundState, failure_reason: str, failed_at: datetime) -> RefundState:
    """Return a completed refund as failed: its money came back, so that it may be refunded again.

    The caller must also update the payment (`payments.take_back_refund`). It never failed before it was completed,
    whatever the clocks say. What was paid onto a gift card is on it, and cannot come back.
    """
    if refund.completed_at is None or refund.status is not RefundStatus.COMPLETED:
        raise IllegalTransitionError(
            f"Refund {refund.refund_id} is {refund.status}; only a completed one can be reversed."
        )
    if refund.gift_card_id is not None:
        raise ConflictError(f"Refund {refund.refund_id} was paid onto a gift card; no provider can send it back.")
    return _failed(refund, failure_reason, max(failed_at, refund.completed_at))


def _failed(refund: RefundState, failure_reason: str, failed_at: datetime) -> RefundState:
    require_transition(REFUND_TRANSITIONS, refund.status, RefundStatus.FAILED, f"Refund {refund.refund_id}")
    return msgspec.structs.replace(
        refund,
        version=refund.version + 1,
        status=RefundStatus.FAILED,
        failure_reason=failure_reason,
        failed_at=failed_at,
    )


def _check_request(order: OrderState, payment: PaymentState, requests: Sequence[RefundRequest]) -> None:
    if payment.order_id != order.order_id:
        raise InputError(f"Payment {payment.payment_id} does not belong to order {order.order_number}.")
    if payment.status is not PaymentStatus.CAPTURED:
        raise OverRefundError(f"Payment {payment.payment_id} is {payment.status}; nothing was captured to give back.")
    if not requests:
        raise InputError("A refund needs at least one line.")
    known = {line.order_line_id for line in order.lines}
    for request in requests:
        if request.order_line_id not in known:
            raise NotFoundError(f"Order {order.order_number} has no line {request.order_line_id}.")


def _refund_lines(
    order: OrderState, requests: Sequence[RefundRequest], line_refunds: Mapping[str, LineRefunds]
) -> tuple[list[RefundLine], list[RefundLineTax]]:
    """Return the lines in input order, with their taxes; the second naming of a line is limited by the first."""
    lines: list[RefundLine] = []
    taxes: list[RefundLineTax] = []
    running = dict(line_refunds)
    by_id, charged = {line.order_line_id: line for line in order.lines}, by_line(order.line_taxes)
    for request in requests:
        refunds = running.get(request.order_line_id, NOTHING_REFUNDED)
        line = _refund_line(by_id[request.order_line_id], refunds, request, order.currency)
        own = _line_taxes(line, charged.get(line.order_line_id, []), refunds)
        running[request.order_line_id] = _plus(refunds, line, own)
        lines.append(line)
        taxes += own
    return lines, taxes


def _line_taxes(line: RefundLine, charged: Sequence[OrderLineTax], refunds: LineRefunds) -> list[RefundLineTax]:
    if not charged:
        return []
    parts = given_back(line.tax_minor, charged, refunds.taxes)
    return [
        RefundLineTax(refund_line_id=line.refund_line_id, jurisdiction=tax.jurisdiction, tax_minor=part)
        for tax, part in zip(charged, parts, strict=True)
    ]


def _refund_line(line: OrderLine, refunds: LineRefunds, request: RefundRequest, currency: str) -> RefundLine:
    amount_minor, tax_minor = refund_amounts(line, refunds, request.quantity, request.amount_minor, currency=currency)
    if request.is_restocked:
        if request.quantity < 1:
            raise InputError(f"Line {line.sku}: no units are named that could be restocked.")
        if line.kind is not LineKind.GOODS:
            raise InputError(f"Line {line.sku} is not stocked; it cannot be restocked.")
        not_back = line.fulfilled_quantity - refunds.restocked_quantity - refunds.returned_quantity
        if request.quantity > not_back:
            raise ConflictError(
                f"Line {line.sku}: {counted(request.quantity, 'unit')} to restock, "
                f"{not_back} left the stock and are not back."
            )
    return RefundLine(
        refund_line_id=request.refund_line_id,
        order_line_id=line.order_line_id,
        quantity=request.quantity,
        amount_minor=amount_minor,
        tax_minor=tax_minor,
        jurisdiction=line.jurisdiction,
        tax_category=line.tax_category,
        is_restocked=request.is_restocked,
        is_amount_named=request.amount_minor is not None,
    )


def _plus(refunds: LineRefunds, line: RefundLine, taxes: Sequence[RefundLineTax]) -> LineRefunds:
    named = line.is_amount_named
    return LineRefunds(
        quantity=refunds.quantity + line.quantity,
        amount_minor=refunds.amount_minor + line.amount_minor,
        tax_minor=refunds.tax_minor + line.tax_minor,
        restocked_quantity=refunds.restocked_quantity + (line.quantity if line.is_restocked else 0),
        named_quantity=refunds.named_quantity + (line.quantity if named else 0),
        named_minor=refunds.named_minor + (line.amount_minor if named else 0),
        named_tax_minor=refunds.named_tax_minor + (line.tax_minor if named else 0),
        settled_quantity=refunds.settled_quantity,
        returned_quantity=refunds.returned_quantity,
        taxes=refunds.taxes
        | {tax.jurisdiction: refunds.taxes.get(tax.jurisdiction, 0) + tax.tax_minor for tax in taxes},
    )
