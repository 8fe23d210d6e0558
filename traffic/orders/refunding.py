"""Refunds of an order from a file, by lines or by an amount from which the lines are derived; pure.

Belongs here: which units and how much of which line. Does not belong here: all other events (`life.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from contracts.errors import OverRefundError
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState
from contracts.money import allocate
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from oltp.domain.orders import withdraw_refunded
from oltp.domain.payments import refund_payment
from oltp.domain.refunds import RefundRequest, request_refund, with_requested, with_settled
from traffic.orders.format import Payment, Refund
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import refund_id
from traffic.orders.rehearsed_orders import Standing


def refund_order(standing: Standing, place: int, refund: Refund, at: datetime) -> None:
    """Apply a refund; RejectedError, or an error of the domain, when the books would refuse the refund."""
    amount_minor = None if refund.amount is None else standing.minor(refund.amount, "amount")
    if not refund.lines and not amount_minor:
        raise RejectedError("refund_without_amount", f"refund {refund.reference} has neither amount nor lines")
    ways = [_named(standing, refund)] if refund.lines else _ways_to_give(standing, amount_minor or 0)
    payment = _payment_for(standing, refund, amount_minor, ways[0])
    too_much: OverRefundError | None = None
    differs_minor = 0
    for requests in ways:
        try:
            requested = _requested(standing, refund, payment, requests, at)
        except OverRefundError as error:
            too_much = error
            continue
        if amount_minor in (None, requested.amount_minor):
            _give(standing, place, payment, requests, requested, at)
            return
        differs_minor = requested.amount_minor
    if too_much is not None:
        raise too_much
    raise RejectedError(
        "amount_differs",
        f"refund {refund.reference}: amount is {standing.shown(amount_minor or 0)} in the file, and its lines come to "
        f"{standing.shown(differs_minor)} by the books' rule",
    )


def _requested(
    standing: Standing, refund: Refund, payment: PaymentState, requests: Sequence[RefundRequest], at: datetime
) -> RefundState:
    return request_refund(
        standing.order,
        payment,
        requests,
        refund_id=refund_id(standing.record, refund.reference),
        line_refunds=standing.refunds,
        pending_minor=0,
        reason=refund.reason,
        external_reference=refund.reference,
        requested_at=at,
    )


def _give(
    standing: Standing,
    place: int,
    payment: PaymentState,
    requests: Sequence[RefundRequest],
    requested: RefundState,
    at: datetime,
) -> None:
    settled = with_settled(with_requested(standing.refunds, requested), requested)
    standing.order = (
        withdraw_refunded(standing.order, settled, captured_minor=standing.captured_minor) or standing.order
    )
    standing.refunds = settled
    paid_by = _paid_by(standing, payment)
    standing.payments[paid_by.reference] = refund_payment(payment, requested.amount_minor)
    standing.refunded_minor += requested.amount_minor
    for request in requests:
        if left := standing.unpaid_for.get(request.order_line_id):
            standing.unpaid_for[request.order_line_id] = max(left - request.quantity, 0)
    command = RequestRefund(
        merchant_id=standing.record.merchant_id,
        payment_id=payment.payment_id,
        lines=[
            RefundLineInput(
                order_line_id=request.order_line_id,
                quantity=request.quantity,
                is_restocked=request.is_restocked,
                amount_minor=request.amount_minor,
            )
            for request in requests
        ],
        reason=requested.reason,
        external_reference=requested.external_reference,
        refund_id=requested.refund_id,
    )
    standing.do(f"refund/{place}", command, at)
    complete = CompleteRefund(merchant_id=standing.record.merchant_id, refund_id=requested.refund_id)
    # What a gift card has paid goes back onto it, and no provider is asked.
    standing.do(f"complete/{place}", complete, at, paid_by if paid_by.gift_card is None else None)


def _named(standing: Standing, refund: Refund) -> list[RefundRequest]:
    return [
        RefundRequest(
            refund_line_id=str(place),
            order_line_id=standing.line_id(units),
            quantity=units.quantity,
            is_restocked=units.is_restocked,
            amount_minor=None if units.amount is None else standing.minor(units.amount, "line amount"),
        )
        for place, units in enumerate(refund.lines, start=1)
    ]


def _ways_to_give(standing: Standing, amount_minor: int) -> list[list[RefundRequest]]:
    """Return the possible line splits of an amount: cancelled units, everything left, or money from every line."""
    left = {line.order_line_id: standing.left(line) for line in standing.order.lines}
    left = {line_id: both for line_id, both in left.items() if line_id != standing.unallocated_id}
    cancelled = {line_id: units for line_id, units in standing.unpaid_for.items() if units}
    everything = {line_id: units for line_id, (units, _) in left.items() if units}
    ways = [_requests(units) for units in (cancelled, everything) if units]
    weights = [money for _, money in left.values()]
    if standing.unallocated_id:
        unallocated = standing.left(standing.order.lines[int(standing.unallocated_id) - 1])[1]
        if unallocated:
            # Unallocated cash belongs to the customer, so it is refunded before money of lines that stay.
            ways.insert(len(ways[:1]), _money({standing.unallocated_id: min(unallocated, amount_minor)}))
        if amount_minor > sum(weights):
            left[standing.unallocated_id] = (0, unallocated)
            weights.append(unallocated)
    if amount_minor > sum(weights):
        left_minor = standing.shown(sum(weights))
        raise RejectedError(
            "refund_not_possible", f"{standing.shown(amount_minor)} asked for, {left_minor} of the order is left"
        )
    ways.append(_money(dict(zip(left, allocate(amount_minor, weights), strict=True))))
    return ways


def _payment_for(
    standing: Standing, refund: Refund, amount_minor: int | None, requests: Sequence[RefundRequest]
) -> PaymentState:
    """Return the named payment, or the first payment from which the whole amount can still be refunded."""
    if refund.payment is not None:
        if refund.payment not in standing.payments:
            raise RejectedError("payment_not_known", f"refund {refund.reference} names {refund.payment}")
        return standing.payments[refund.payment]
    captured = [payment for payment in standing.payments.values() if payment.captured_minor]
    if not captured:
        raise RejectedError("refund_without_payment", f"refund {refund.reference}: nothing was captured")
    needed_minor = sum(request.amount_minor or 0 for request in requests) if amount_minor is None else amount_minor
    fitting = [one for one in captured if one.captured_minor - one.refunded_minor >= needed_minor]
    return (fitting or captured)[0]


def _paid_by(standing: Standing, payment: PaymentState) -> Payment:
    return next(
        one
        for one in standing.record.payments
        if one.reference in standing.payments and standing.payments[one.reference].payment_id == payment.payment_id
    )


def _requests(units: Mapping[str, int]) -> list[RefundRequest]:
    return [
        RefundRequest(refund_line_id=line_id, order_line_id=line_id, quantity=quantity, is_restocked=False)
        for line_id, quantity in units.items()
    ]


def _money(amounts: Mapping[str, int]) -> list[RefundRequest]:
    return [
        RefundRequest(
            refund_line_id=line_id, order_line_id=line_id, quantity=0, is_restocked=False, amount_minor=amount_minor
        )
        for line_id, amount_minor in amounts.items()
        if amount_minor
    ]
