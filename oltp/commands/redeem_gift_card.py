"""Redeem a gift card: pay for an order from its balance, wholly or in part.

The payment is authorized and captured at once, in the transaction that takes the amount from the card: no provider is
asked. What is given back of such a payment goes back onto a card (`complete_refund.py`).
"""

from __future__ import annotations

from contracts.events.gift_card import GiftCardEvent, GiftCardState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import AmountMinor, Uuid
from oltp.commands.execute import Command
from oltp.domain.gift_cards import amount_to_redeem, authorized_by_card, capture_by_card, redeem, require_usable
from oltp.domain.payments import capture_payment
from oltp.domain.provider_calls import to_be_paid_minor
from oltp.outbox import Change
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, save, save_all
from oltp.transaction import CommandTransaction


class RedeemGiftCard(Command[PaymentState], frozen=True, kw_only=True):
    """Take `amount_minor` from the card for an order, or (None) as much as the order owes and the card holds.

    What the order owes beyond that is paid in another way, e.g. by authorizing the rest.
    """

    order_id: Uuid
    gift_card_id: Uuid
    amount_minor: AmountMinor | None = None
    payment_id: Uuid | None = None

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment, captured; InsufficientBalanceError when the card holds less, ConflictError if expired."""
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_payments = ask_by(tx, PaymentState, self.merchant_id, "order_id", self.order_id, lock=False)
        ask_calls = calls_of_order(tx, self.merchant_id, self.order_id)
        ask_card = ask(tx, GiftCardState, self.merchant_id, self.gift_card_id)
        order, payments, in_flight = ask_order(), ask_payments(), to_be_paid_minor(ask_calls())
        card = ask_card()
        require_usable(card, order.currency, tx.occurred_at)
        amount_minor = amount_to_redeem(card, order, payments, self.amount_minor, in_flight)
        payment = authorized_by_card(
            card,
            order,
            payment_id=self.payment_id or tx.new_id(),
            amount_minor=amount_minor,
            authorized_at=tx.occurred_at,
        )
        captured = capture_payment(payment, capture_by_card(payment, tx.new_id()))
        # Two events, as of any payment: first the whole of it is set aside, then taken.
        save(tx, None, payment, PaymentEvent.PAYMENT_AUTHORIZED)
        save_all(
            tx,
            [
                Change(before=payment, after=captured, event_type=PaymentEvent.PAYMENT_CAPTURED),
                Change(before=card, after=redeem(card, amount_minor), event_type=GiftCardEvent.GIFT_CARD_REDEEMED),
            ],
        )
        return captured
