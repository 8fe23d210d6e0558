"""The payment of a plan whose money comes later: awaited, and then what the embedded provider's bank notifies.

Belongs here: these steps. Does not belong here: the rest of an order's journey (`journeys.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from contracts.events.order import OrderState
from contracts.events.payment import PaymentMethod, PaymentState
from oltp import embedded_bank
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.execute import Command, CommandPod, execute
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.domain.notifications import Notification
from oltp.notifying import apply_notification, store_notification
from traffic.plans import OrderPlan, Payment

ABOVE_MINOR = 500
"""What is transferred too much."""
RETURN_FEE_MINOR = 350
DEBITS = (Payment.DEBIT, Payment.DEBIT_FAILED, Payment.DEBIT_RETURNED)


@dataclass(kw_only=True)
class LaterPayment:
    """The steps of one order's payment; `source` and `done` as in a journey."""

    pod: CommandPod
    plan: OrderPlan
    source: str
    done: Counter[str]

    def pay(self, order: OrderState, payment_id: str) -> PaymentState | None:
        """Await the payment and let its money come; return it, or None when the money is not there."""
        owed_minor = order.total_minor - order.cancelled_minor
        if owed_minor == 0:
            return None
        fate = self.plan.payment
        command = AwaitPayment(
            merchant_id=order.merchant_id,
            order_id=order.order_id,
            method=PaymentMethod.DIRECT_DEBIT if fate in DEBITS else PaymentMethod.BANK_TRANSFER,
            payment_id=payment_id,
        )
        payment = self._run("await", command)
        if fate is Payment.TRANSFER_AWAITED:
            return None
        if fate is Payment.DEBIT_FAILED:
            self._told(embedded_bank.failed(payment, "The account has no cover.", self.pod.clock()))
            return None
        is_in_two = fate is Payment.TRANSFER_IN_TWO and owed_minor > 1
        amounts = [owed_minor // 2, owed_minor - owed_minor // 2] if is_in_two else [owed_minor]
        if fate is Payment.TRANSFER_ABOVE:
            amounts = [owed_minor + ABOVE_MINOR]
        for number, amount_minor in enumerate(amounts, start=1):
            self._told(embedded_bank.received(payment, f"receipt-{number}", amount_minor, self.pod.clock()))
        if fate is Payment.TRANSFER_ABOVE and self.plan.is_restocked:
            self._give_back(payment)
        return payment

    def take_back(self, payment: PaymentState) -> None:
        """Let the bank take the direct debit back."""
        amount_minor = payment.authorized_minor
        reason = "The customer has objected."
        self._told(
            embedded_bank.returned(payment, "receipt-1", amount_minor, RETURN_FEE_MINOR, reason, self.pod.clock())
        )

    def _give_back(self, payment: PaymentState) -> None:
        reference = embedded_bank.received(payment, "receipt-1", 0, self.pod.clock()).reference or ""
        command = GiveBackUnallocated(
            merchant_id=payment.merchant_id,
            payment_id=payment.payment_id,
            provider_reference=reference,
            reason="paid too much",
        )
        self._run("give back", command)

    def _run(self, step: str, command: Command[PaymentState]) -> PaymentState:
        answer = execute(self.pod, command, idempotency_key=f"{self.source}/{self.plan.order_number}/{step}")
        self.done[type(command).__name__] += 1
        return answer

    def _told(self, notification: Notification) -> None:
        """Hand over a notification as the interface does; one that came before changes nothing."""
        name, body = self.pod.gateway.name, msgspec.json.encode(notification).decode()
        with self.pod.connections.connection() as connection:
            store_notification(connection, name, notification, body)
        apply_notification(self.pod, name, notification.id, notification.merchant_id)
        self.done["ApplyNotification"] += 1
