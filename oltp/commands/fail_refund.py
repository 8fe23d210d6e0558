"""Fail a refund that was requested: no money moved, and its units and amounts may be refunded again."""

from __future__ import annotations

from contracts.errors import ConflictError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundEvent, RefundState
from contracts.limits import Note, Uuid
from oltp.commands.execute import Command
from oltp.domain.refunds import fail_refund
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, load, save
from oltp.transaction import CommandTransaction


class FailRefund(Command[RefundState], frozen=True, kw_only=True):
    """Record that a requested refund will not be paid."""

    refund_id: Uuid
    failure_reason: Note

    def run(self, tx: CommandTransaction) -> RefundState:
        """Return the failed refund; ConflictError when it is already settled, or while the provider is paying it."""
        # Lock order and payment first, as every command does: the database trigger that checks a refund locks both.
        found = load(tx, RefundState, self.merchant_id, self.refund_id, lock=False)
        ask(tx, OrderState, self.merchant_id, found.order_id)
        ask(tx, PaymentState, self.merchant_id, found.payment_id)
        ask_refund = ask(tx, RefundState, self.merchant_id, self.refund_id)
        calls = calls_of_order(tx, self.merchant_id, found.order_id)
        refund = ask_refund()
        if any(call.refund_id == refund.refund_id for call in calls()):
            raise ConflictError(f"Refund {refund.refund_id}: the provider is being asked to pay it; try again later.")
        failed = fail_refund(refund, self.failure_reason, tx.occurred_at)
        return save(tx, refund, failed, RefundEvent.REFUND_FAILED)
