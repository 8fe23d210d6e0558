"""End the waiting for money whose time is over. Its order ends with it, unless something else pays.

Money that comes later all the same is unallocated (`receive_payment.py`).
"""

from __future__ import annotations

from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState, PaymentStatus
from contracts.limits import Batch
from oltp.commands.ending_orders import end_unpaid
from oltp.commands.execute import Command
from oltp.commands.expire import Expiring
from oltp.domain.pending_payments import expire_payment
from oltp.store.rows import ask, save
from oltp.transaction import CommandTransaction

PAYMENTS = Expiring(
    state_type=PaymentState,
    named="payments",
    waiting=(PaymentStatus.PENDING, PaymentStatus.CAPTURED),
    event=PaymentEvent.PAYMENT_EXPIRED,
    end=lambda payment, _: expire_payment(payment),
)

# Not locked: a payment is locked after its order. Locks of several orders are taken in the order of their ids.
_DUE = """
select order_id::text, payment_id::text from (
    select order_id, payment_id from oltp.payments
    where merchant_id = %s and status in ('pending', 'captured') and expires_at <= %s
    order by expires_at, payment_id
    limit %s
) as due
order by order_id, payment_id
"""


class ExpirePayments(Command[list[PaymentState]], frozen=True, kw_only=True):
    """End the waiting of at most `limit` payments, the oldest first; call again while it returns that many."""

    limit: Batch = 100

    def run(self, tx: CommandTransaction) -> list[PaymentState]:
        """Return the payments whose money is not waited for any longer."""
        rows = tx.query(_DUE, (self.merchant_id, tx.occurred_at, self.limit)).fetchall()
        # All are locked before the first ends: an order that ends locks stock, and stock comes last.
        found = [self._lock(tx, order_id, payment_id) for order_id, payment_id in rows]
        # Of the others the money came, or they ended in another way, while their order was waited for.
        due = [(order, one) for order, one in found if one.expires_at is not None and one.expires_at <= tx.occurred_at]
        return [_expired(tx, order, payment) for order, payment in due]

    def _lock(self, tx: CommandTransaction, order_id: str, payment_id: str) -> tuple[OrderState, PaymentState]:
        ask_order = ask(tx, OrderState, self.merchant_id, order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, payment_id)
        return ask_order(), ask_payment()


def _expired(tx: CommandTransaction, order: OrderState, payment: PaymentState) -> PaymentState:
    expired = save(tx, payment, PAYMENTS.end(payment, tx.occurred_at), PAYMENTS.event)
    end_unpaid(tx, order)
    return expired
