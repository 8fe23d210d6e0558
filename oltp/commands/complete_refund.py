"""Complete a refund: the provider gives the money back; returned or never shipped units can be sold again.

While the provider is asked, the refund cannot be failed. A refund that the provider declines is recorded as failed. The
provider's idempotency key is the refund's id, not the command's key. So commands with different keys get the same
reference, and no money moves twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import GatewayAmountError, GatewayDeclinedError
from contracts.events.common import Value
from contracts.events.gift_card import GiftCardEvent, GiftCardState
from contracts.events.order import OrderEvent, OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.events.refund import RefundEvent, RefundState, RefundStatus
from contracts.events.stock import ReservationEvent, ReservationState, StockMovementKind
from contracts.limits import NOTE, Uuid
from contracts.money import format_minor
from contracts.text import visible
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.gift_cards import credit, require_usable
from oltp.domain.orders import units_released, withdraw_refunded
from oltp.domain.payments import refund_payment, require_still_there
from oltp.domain.provider_calls import CallKind, ProviderCall, in_flight_minor
from oltp.domain.refunds import LineRefunds, complete_refund, fail_refund, with_settled
from oltp.domain.reservations import release
from oltp.gateway import provider_key
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.payments import captured_of_order, line_refunds
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, load, save, save_all
from oltp.transaction import CommandTransaction

_RETURNED = """
select order_lines.variant_id::text, refund_lines.quantity, (
    select fulfillments.location_id
    from oltp.fulfillment_lines
    inner join oltp.fulfillments using (fulfillment_id)
    where fulfillment_lines.order_line_id = refund_lines.order_line_id
    order by fulfillments.shipped_at desc, fulfillments.fulfillment_id desc
    limit 1
)
from oltp.refund_lines
inner join oltp.order_lines using (order_line_id)
where refund_lines.refund_id = %s and refund_lines.is_restocked
"""
"""Returned units per refund line: variant, units, and the location that shipped the line last."""


class Found(Value, frozen=True, kw_only=True):
    """The aggregates that a completed refund changes, locked, and the data that decides how."""

    order: OrderState
    payment: PaymentState
    refund: RefundState
    held: list[ReservationState]
    card: GiftCardState | None
    """The gift card that the refund is paid onto."""
    refunds: dict[str, LineRefunds]
    captured_minor: int
    """Of the whole order; captures under way count as captured."""


class CompleteRefund(ProviderCommand[RefundState, Found], frozen=True, kw_only=True):
    """Give back the money of a requested refund; restocked lines return to the location that shipped them last.

    Units that will not be shipped now are withdrawn from the order, and stock no longer holds them. An order with
    nothing left to ship has ended. Answers with the refund: completed or, if the provider declined, failed.
    """

    refund_id: Uuid

    def load(self, tx: CommandTransaction) -> Found:
        """Lock order, payment, refund, reservations and gift card, in this order."""
        found = load(tx, RefundState, self.merchant_id, self.refund_id, lock=False)
        ask_order = ask(tx, OrderState, self.merchant_id, found.order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, found.payment_id)
        ask_refund = ask(tx, RefundState, self.merchant_id, self.refund_id)
        ask_held = ask_by(tx, ReservationState, self.merchant_id, "order_id", found.order_id)
        ask_card = None if found.gift_card_id is None else ask(tx, GiftCardState, self.merchant_id, found.gift_card_id)
        ask_refunds = line_refunds(tx, found.order_id)
        ask_captured = captured_of_order(tx, found.order_id)
        ask_calls = calls_of_order(tx, self.merchant_id, found.order_id)
        return Found(
            order=ask_order(),
            payment=ask_payment(),
            refund=ask_refund(),
            held=ask_held(),
            card=None if ask_card is None else ask_card(),
            refunds=ask_refunds(),
            captured_minor=ask_captured() + in_flight_minor(ask_calls(), CallKind.CAPTURE),
        )

    def prepare(self, tx: CommandTransaction, loaded: Found) -> RefundState | ProviderCall:
        """Return the call; what would be refused after money moved is refused now. Onto a card it is paid at once."""
        refund = loaded.refund
        completed = complete_refund(refund, refund.gift_card_id, tx.occurred_at)
        require_still_there(loaded.payment, refund.amount_minor)
        if loaded.card is not None:
            require_usable(loaded.card, refund.currency, tx.occurred_at)
            return _record(tx, loaded, completed)
        return self.call_for(loaded)

    def call_for(self, loaded: Found) -> ProviderCall:
        """Return the call that gives the money back."""
        refund = loaded.refund
        return ProviderCall(
            kind=CallKind.REFUND,
            provider_key=provider_key(refund.merchant_id, f"refund/{refund.refund_id}"),
            order_id=refund.order_id,
            payment_id=refund.payment_id,
            refund_id=refund.refund_id,
            subject=loaded.payment.provider_reference,
            amount_minor=refund.amount_minor,
            currency=refund.currency,
        )

    def conclude(
        self, tx: CommandTransaction, loaded: Found, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> RefundState:
        """Record that the money went back, or that the provider declined.

        GatewayAmountError when the provider says that it gave another amount back.
        """
        refund = loaded.refund
        if refund.status is not RefundStatus.REQUESTED:
            # A command with another key was faster; the provider has paid once.
            return refund
        if isinstance(outcome, GatewayDeclinedError):
            failed = fail_refund(refund, visible(str(outcome))[: NOTE.longest], tx.occurred_at)
            return save(tx, refund, failed, RefundEvent.REFUND_FAILED)
        if outcome.amount_minor != call.amount_minor:
            raise GatewayAmountError(
                f"Refund {refund.refund_id}: the provider says that it gave "
                f"{format_minor(outcome.amount_minor, refund.currency)} back, not "
                f"{format_minor(call.amount_minor, refund.currency)}; nothing is recorded, a person must look."
            )
        return _record(tx, loaded, complete_refund(refund, outcome.reference or None, tx.occurred_at))


def _record(tx: CommandTransaction, found: Found, completed: RefundState) -> RefundState:
    order, refund = found.order, found.refund
    settled = with_settled(found.refunds, refund)
    withdrawn = withdraw_refunded(order, settled, captured_minor=found.captured_minor)
    freed = units_released((order, found.refunds), (withdrawn or order, settled))
    steps = [(held, release(held, freed)) for held in found.held if freed]
    after = refund_payment(found.payment, refund.amount_minor)
    save_all(
        tx,
        [
            *_order_changes(order, withdrawn),
            Change(before=refund, after=completed, event_type=RefundEvent.REFUND_COMPLETED),
            Change(before=found.payment, after=after, event_type=PaymentEvent.PAYMENT_REFUNDED),
            *(Change(before=old, after=new, event_type=ReservationEvent.RESERVATION_RELEASED) for old, new in steps),
            *_card_changes(found.card, refund),
        ],
    )
    _move_stock(tx, refund, steps)
    return completed


def _order_changes(order: OrderState, withdrawn: OrderState | None) -> list[Change]:
    if withdrawn is None:
        return []
    return [Change(before=order, after=withdrawn, event_type=OrderEvent.ORDER_UNITS_WITHDRAWN)]


def _card_changes(card: GiftCardState | None, refund: RefundState) -> list[Change]:
    if card is None:
        return []
    after = credit(card, refund.amount_minor)
    return [Change(before=card, after=after, event_type=GiftCardEvent.GIFT_CARD_CREDITED)]


def _move_stock(
    tx: CommandTransaction, refund: RefundState, steps: Sequence[tuple[ReservationState, ReservationState]]
) -> None:
    """Add returned units to stock, location by location in sorted order, and release units that are no longer held."""
    for location_id, units in sorted(_returned_units(tx, refund).items()):
        stock.move(
            tx,
            refund.merchant_id,
            location_id,
            StockMovementKind.RETURNED,
            units,
            refund.reason,
            order_id=refund.order_id,
        )
    if steps:
        stock.follow_all(tx, steps)


def _returned_units(tx: CommandTransaction, refund: RefundState) -> dict[str, dict[str, int]]:
    """Return the returned units by location id and variant id."""
    units: dict[str, dict[str, int]] = {}
    if not any(line.is_restocked for line in refund.lines):
        return units
    for variant_id, quantity, location_id in tx.query(_RETURNED, [refund.refund_id]).fetchall():
        by_variant = units.setdefault(location_id, {})
        by_variant[variant_id] = by_variant.get(variant_id, 0) + quantity
    return units
