"""Combines the amounts that finance believes with the other, later changes of an aggregate.

Pure. Belongs here: that combination, when no later change moved money itself. Does not belong here: which amounts
finance believes (`derived/unexplained.py`), the decision about them (`repair/deciding.py`).
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.events.common import AggregateState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState


def with_money_of(believed: AggregateState | None, present: AggregateState | None) -> AggregateState | None:
    """Return `present` with the amounts of `believed`; None when later changes moved money, too."""
    match believed, present:
        case OrderState(), OrderState():
            return _order(believed, present)
        case PaymentState(), PaymentState():
            return _payment(believed, present)
        case RefundState(), RefundState():
            return replace(
                believed,
                version=present.version,
                status=present.status,
                provider_reference=present.provider_reference,
                failure_reason=present.failure_reason,
                completed_at=present.completed_at,
                failed_at=present.failed_at,
            )
    return None


def _order(believed: OrderState, present: OrderState) -> OrderState | None:
    was, now = ({line.order_line_id: line for line in one.lines} for one in (believed, present))
    if was.keys() != now.keys() or any(was[key].cancelled_quantity != now[key].cancelled_quantity for key in was):
        return None
    lines = [
        replace(
            line,
            fulfilled_quantity=now[line.order_line_id].fulfilled_quantity,
            withdrawn_quantity=now[line.order_line_id].withdrawn_quantity,
        )
        for line in believed.lines
    ]
    return replace(believed, version=present.version, status=present.status, lines=lines)


def _payment(believed: PaymentState, present: PaymentState) -> PaymentState | None:
    was, now = ({capture.payment_capture_id for capture in one.captures} for one in (believed, present))
    if was != now or believed.released_minor != present.released_minor or believed.disputes != present.disputes:
        return None
    if believed.movements != present.movements:
        return None
    return replace(
        believed,
        version=present.version,
        status=present.status,
        refunded_minor=present.refunded_minor,
        expires_at=present.expires_at,
        failure_reason=present.failure_reason,
    )
