"""An aggregate with the money that finance believes, and with all else that has happened to it since.

Pure. Belongs here: putting the two together, where nothing that happened since moved money of its own. Does not belong
here: which money is believed (`derived/unexplained.py`), who decides about it (`repair/deciding.py`).
"""

from __future__ import annotations

from msgspec.structs import replace

from contracts.events.common import AggregateState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState


def with_money_of(believed: AggregateState | None, present: AggregateState | None) -> AggregateState | None:
    """Return what is present, its money as in `believed`; None where what happened since moved money, too."""
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
    if was != now or believed.released_minor != present.released_minor:
        return None
    return replace(believed, version=present.version, status=present.status, refunded_minor=present.refunded_minor)
