"""Request a refund: decide how much is given back for which lines, before any money moves.

A requested refund reduces the amount that may still be refunded. So two refunds never give back more than was captured,
per payment and per line.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from contracts.events.gift_card import GiftCardState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundEvent, RefundState
from contracts.limits import LINES, AmountMinor, Note, QuantityOrNone, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.gift_cards import require_usable
from oltp.domain.refunds import RefundRequest, request_refund
from oltp.store.payments import line_refunds, pending_refunds
from oltp.store.rows import ask, load, save
from oltp.transaction import CommandTransaction


class RefundLineInput(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one order line; `is_restocked`: they came back and go to stock when the refund completes.

    `amount_minor`: how much is given back, including tax; None: the price of the units. With an amount, `quantity` may
    be 0: then only money is given back, e.g. when a line is refunded over two payments.
    """

    order_line_id: Uuid
    quantity: QuantityOrNone
    is_restocked: bool = False
    amount_minor: AmountMinor | None = None


class RequestRefund(Command[RefundState], frozen=True, kw_only=True):
    """Request a refund on one payment; amounts that are not named follow from the lines, tax included.

    `gift_card_id`: the card that the money is paid onto; None: back the way it was paid, so onto the card of a payment
    by gift card.
    """

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"gift_card_id"})

    payment_id: Uuid
    lines: Annotated[list[RefundLineInput], LINES]
    reason: Note
    external_reference: Reference | None = None
    refund_id: Uuid | None = None
    gift_card_id: Uuid | None = None

    def run(self, tx: CommandTransaction) -> RefundState:
        """Return the requested refund; OverRefundError when it exceeds what is left of the payment or of a line."""
        order_id = load(tx, PaymentState, self.merchant_id, self.payment_id, lock=False).order_id
        ask_order = ask(tx, OrderState, self.merchant_id, order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, self.payment_id)
        refunds, pending = line_refunds(tx, order_id), pending_refunds(tx, self.payment_id)
        order, payment = ask_order(), ask_payment()
        refund = request_refund(
            order,
            payment,
            [
                RefundRequest(
                    refund_line_id=tx.new_id(),
                    order_line_id=line.order_line_id,
                    quantity=line.quantity,
                    is_restocked=line.is_restocked,
                    amount_minor=line.amount_minor,
                )
                for line in self.lines
            ],
            refund_id=self.refund_id or tx.new_id(),
            line_refunds=refunds(),
            pending_minor=pending(),
            reason=self.reason,
            external_reference=self.external_reference,
            requested_at=tx.occurred_at,
            gift_card_id=self.gift_card_id,
        )
        if refund.gift_card_id is not None:
            card = load(tx, GiftCardState, self.merchant_id, refund.gift_card_id, lock=False)
            require_usable(card, refund.currency, tx.occurred_at)
        return save(tx, None, refund, RefundEvent.REFUND_REQUESTED)
