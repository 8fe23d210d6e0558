"""The events of an order from a file: for each event the order's next state and the command; pure.

Belongs here: payments, cancellations, shipments and refunds in the order of time, each through the domain's own
function. Does not belong here: the order's price (`placing.py`).

Two cases that a file may contain and the domain does not have:

- More was captured than is owed (or the order has no lines). Then the order gets a line `UNALLOCATED-CASH` with the
  difference, so that cash equals the provider's cash. It is a deposit of the customer: untaxed, and no revenue until it
  is refunded. A cancellation or a refund that names no lines does not include it. It is added only if the file states
  the order's total; otherwise a line may be missing in the file.
- Units were cancelled after payment. Captured money is refunded, never cancelled. So a cancellation of captured units
  books nothing by itself; the refund of these units withdraws them. Without such a refund the order is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.events.adjustment import AdjustmentKind
from contracts.events.payment import PaymentCapture
from contracts.money import micro_per_minor
from contracts.text import counted
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.book_adjustment import BookAdjustment
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.quantities import QuantityInput
from oltp.commands.release_payment import ReleasePayment
from oltp.domain.orders import cancel_order, fulfill_order, owed_minor
from oltp.domain.payments import (
    authorize_payment,
    capture_payment,
    left_to_capture_minor,
    open_to_authorize_minor,
    release_payment,
)
from traffic.orders.card_payments import check_card_payment, pay_by_card
from traffic.orders.format import Cancellation, Fulfillment, Payment
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import LOCATION, SOURCE, payment_id
from traffic.orders.refunding import refund_order
from traffic.orders.rehearsed_orders import Standing


class PaidAboveError(Exception):
    """The captured amount exceeds the owed amount by `amount_minor`: the order needs a line for it."""

    def __init__(self, amount_minor: int) -> None:
        super().__init__(amount_minor)
        self.amount_minor = amount_minor


@dataclass(frozen=True, kw_only=True)
class _Event:
    at: datetime
    rank: int
    """The order of events with the same time, lowest first: payment, cancellation, shipment, refund."""
    what: str
    happens: Callable[[datetime], None]


class Life(Standing):
    """An order while the events of the file are applied to it."""

    def run(self, latest: datetime) -> None:
        """Apply all events. Raises RejectedError when the books would refuse an event, and PaidAboveError."""
        if self.placed.below_minor:
            self.do("rounding", self._rounding(), self.record.placed_at)
        for event in sorted(self._events(), key=lambda event: (event.at, event.rank)):
            if not self.record.placed_at <= event.at <= latest:
                reason = "in_the_future" if event.at > latest else "before_the_order"
                raise RejectedError(reason, f"{event.what}: {event.at.isoformat()}")
            try:
                event.happens(event.at)
            except (InputError, ConflictError, NotFoundError) as error:
                reason = f"{event.what.partition(' ')[0]}_not_possible"
                raise RejectedError(reason, f"{event.what}: {error}") from None
        units = sum(self.unpaid_for.values())
        if units:
            raise RejectedError(
                "cancelled_after_payment_without_refund",
                f"{counted(units, 'unit was', 'units were')} cancelled after the money was captured, and no refund "
                "gives it back",
            )

    def _events(self) -> Iterator[_Event]:
        for place, payment in enumerate(self.record.payments, start=1):
            yield from self._payment_events(place, payment)
        for place, cancelled in enumerate(self.record.cancellations, start=1):
            happens = partial(self._cancel, place, cancelled)
            yield _Event(at=cancelled.cancelled_at, rank=4, what=f"cancellation {place}", happens=happens)
        for place, shipped in enumerate(self.record.fulfillments, start=1):
            happens = partial(self._fulfill, place, shipped)
            yield _Event(at=shipped.shipped_at, rank=5, what=f"fulfillment {place}", happens=happens)
        for place, refund in enumerate(self.record.refunds, start=1):
            happens = partial(refund_order, self, place, refund)
            yield _Event(at=refund.refunded_at, rank=6, what=f"refund {refund.reference}", happens=happens)

    def _payment_events(self, place: int, payment: Payment) -> Iterator[_Event]:
        what = f"payment {payment.reference}"
        captured_at = payment.captured_at or self.record.placed_at
        captured_minor = self.minor(payment.captured, f"{what}: captured")
        authorized_minor = captured_minor if payment.authorized is None else self.minor(payment.authorized, what)
        if captured_minor > authorized_minor:
            raise RejectedError("captured_above_authorized", f"{what}: {self.shown(captured_minor)} was captured")
        if not authorized_minor and not payment.is_declined:
            if payment.authorized is None and payment.captured is None:
                raise RejectedError("payment_without_amount", what)
            # A payment of 0 for a free order is not recorded.
            return
        if payment.gift_card is not None:
            check_card_payment(payment, authorized_minor, captured_minor)
            happens = partial(pay_by_card, self, place, payment, captured_minor)
            yield _Event(at=captured_at, rank=1, what=what, happens=happens)
            return
        authorized_at = payment.authorized_at or (captured_at if payment.authorized is None else self.record.placed_at)
        happens = partial(self._authorize, place, payment, authorized_minor, captured_minor)
        yield _Event(at=authorized_at, rank=1, what=what, happens=happens)
        if payment.is_declined:
            if captured_minor:
                raise RejectedError("captured_and_declined", what)
            return
        if captured_minor:
            happens = partial(self._capture, place, payment, captured_minor)
            yield _Event(at=captured_at, rank=2, what=what, happens=happens)
        if payment.released_at is not None:
            yield _Event(at=payment.released_at, rank=3, what=what, happens=partial(self._release, place, payment))

    def _authorize(self, place: int, payment: Payment, amount_minor: int, captured_minor: int, at: datetime) -> None:
        open_minor = open_to_authorize_minor(self.order, list(self.payments.values()))
        if captured_minor > open_minor:
            raise self._above(payment, captured_minor - max(open_minor, 0))
        if not payment.is_declined and amount_minor > open_minor:
            raise RejectedError(
                "authorized_above_order",
                f"payment {payment.reference}: {self.shown(amount_minor)} was authorized, {self.shown(open_minor)} "
                "is open; state what was authorized of the order",
            )
        own_id = payment_id(self.record, payment.reference)
        self.payments[payment.reference] = authorize_payment(
            self.order,
            payment_id=own_id,
            amount_minor=amount_minor,
            provider=payment.method,
            provider_reference=payment.reference,
            authorized_at=at,
            is_declined=payment.is_declined,
        )
        command = AuthorizePayment(
            merchant_id=self.record.merchant_id,
            order_id=self.order.order_id,
            amount_minor=None if payment.is_declined else amount_minor,
            payment_id=own_id,
            payment_token=payment.reference,
        )
        self.do(f"authorize/{place}", command, at, payment)

    def _above(self, payment: Payment, short_minor: int) -> PaidAboveError | RejectedError:
        """Return PaidAboveError; if all captures fit, return RejectedError: an older authorization covers it."""
        all_minor = sum(self.minor(one.captured, "captured") for one in self.record.payments)
        above_minor = all_minor - owed_minor(self.order)
        if above_minor > 0:
            return PaidAboveError(min(short_minor, above_minor))
        return RejectedError(
            "authorized_above_order",
            f"payment {payment.reference}: what it captured is still set aside by another payment; state when that was "
            "released, or that it was declined",
        )

    def _capture(self, place: int, payment: Payment, amount_minor: int, at: datetime) -> None:
        left_minor = owed_minor(self.order) - self.captured_minor
        if amount_minor > left_minor:
            raise PaidAboveError(amount_minor - left_minor)
        before = self.payments[payment.reference]
        capture = PaymentCapture(
            payment_capture_id=str(place),
            amount_minor=amount_minor,
            provider_reference=payment.reference,
            captured_at=at,
        )
        self.payments[payment.reference] = capture_payment(before, capture)
        command = CapturePayment(
            merchant_id=self.record.merchant_id, payment_id=before.payment_id, amount_minor=amount_minor
        )
        self.do(f"capture/{place}", command, at, payment)

    def _release(self, place: int, payment: Payment, at: datetime) -> None:
        before = self.payments[payment.reference]
        if left_to_capture_minor(before):
            self.payments[payment.reference] = release_payment(before)
            command = ReleasePayment(
                merchant_id=self.record.merchant_id, payment_id=before.payment_id, is_released_by_provider=True
            )
            self.do(f"release/{place}", command, at, payment)

    def _cancel(self, place: int, cancelled: Cancellation, at: datetime) -> None:
        chosen = self.units(cancelled.lines)
        if chosen is None and self.unallocated_id:
            # Name the lines, because the line UNALLOCATED-CASH must not be cancelled.
            chosen = self.open_units(with_shipping=True)
        cancel = partial(cancel_order, self.order, chosen, refunds=self.refunds)
        try:
            self.order = cancel(captured_minor=self.captured_minor)
        except ConflictError:
            # Raises the error again if captured money is not the reason.
            cancel(captured_minor=0)
            for line_id, quantity in (self.open_units() if not cancelled.lines else chosen or {}).items():
                self.unpaid_for[line_id] = self.unpaid_for.get(line_id, 0) + quantity
            return
        command = CancelOrder(
            merchant_id=self.record.merchant_id,
            order_id=self.order.order_id,
            lines=_inputs(chosen),
            reason=cancelled.reason,
        )
        self.do(f"cancel/{place}", command, at)

    def _fulfill(self, place: int, shipped: Fulfillment, at: datetime) -> None:
        chosen = self.units(shipped.lines)
        if chosen is None and any(self.unpaid_for.values()):
            chosen = {
                line_id: left
                for line_id, quantity in self.open_units().items()
                if (left := quantity - self.unpaid_for.get(line_id, 0)) > 0
            }
        self.order, _ = fulfill_order(self.order, chosen, refunds=self.refunds)
        command = FulfillOrder(
            merchant_id=self.record.merchant_id,
            order_id=self.order.order_id,
            location_id=LOCATION,
            lines=_inputs(chosen),
            tracking_number=shipped.tracking_number,
        )
        self.do(f"fulfill/{place}", command, at)

    def _rounding(self) -> BookAdjustment:
        return BookAdjustment(
            merchant_id=self.record.merchant_id,
            kind=AdjustmentKind.MANUAL,
            currency=self.record.currency,
            amount_micro=-self.placed.below_minor * micro_per_minor(self.record.currency),
            quantity=0,
            sku=None,
            customer_id=self.record.customer_id,
            external_reference=self.record.order_number,
            reason=f"rounding: the stated total of order {self.record.order_number} is below that of the rounding rule",
            source=SOURCE,
        )


def _inputs(units: Mapping[str, int] | None) -> list[QuantityInput] | None:
    if units is None:
        return None
    return [QuantityInput(order_line_id=line_id, quantity=quantity) for line_id, quantity in units.items()]
