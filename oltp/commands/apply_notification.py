"""Apply a notification of the payment provider: record what happened there, unless it is recorded already.

The provider's answer to our call and its notification are two messages about one fact. Whichever comes first records
it, by the same code (`ProviderCommand.record`); the other one finds it recorded. A transaction locks the notification,
looks for a call under way that it answers, and only then for what is recorded: a call that another transaction
concludes at this moment is waited for, and its outcome is then seen.

- A call is under way: its outcome is recorded with the command's answer, as if the provider had answered the call.
- It is recorded already: nothing changes.
- The provider did it by itself (an authorization expired, a refund was paid under our key): it is recorded now.
- Nothing here knows it: it waits, because the command that knows it may not have committed yet; after
  `WAITS_AT_MOST` it is parked. Money that the provider holds and no order claims is so never dropped.
- It contradicts what is recorded: it is parked, with both said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from contracts.errors import ConflictError, GatewayAmountError, GatewayDeclinedError, InputError
from contracts.events.payment import DisputeStatus, PaymentDispute, PaymentState, PaymentStatus
from contracts.events.refund import RefundState, RefundStatus
from contracts.limits import NOTE, UUID, Reference
from contracts.text import visible
from oltp.commands.apply_later_money import LATER_MONEY
from oltp.commands.asking import Outcome, ProviderCommand, recorded_reference
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.checking import check_fields
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.end_dispute import EndDispute
from oltp.commands.execute import Command, CommandPod, residing, transaction_of
from oltp.commands.expire_payment import ExpirePayment
from oltp.commands.fail_payment import FailPayment
from oltp.commands.fail_refund import FailRefund
from oltp.commands.finishing import commit
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.open_dispute import OpenDispute
from oltp.commands.reading_notifications import (
    amount_of,
    contradiction,
    in_words,
    other_amount,
    payment_of,
    reason_of,
)
from oltp.commands.release_payment import ReleasePayment
from oltp.commands.requests import Request
from oltp.commands.reverse_refund import ReverseRefund
from oltp.commands.void_payment import VoidPayment
from oltp.domain.disputes import dispute_named, taken_back_minor
from oltp.domain.notifications import (
    WAITS_AT_MOST,
    Notification,
    NotificationKind,
    NotificationState,
    Settlement,
    applied,
    parked,
    problem_of,
    stored_reference,
    waits,
)
from oltp.domain.payments import left_to_capture_minor
from oltp.domain.provider_calls import CallKind, ProviderCall
from oltp.gateway import Moved
from oltp.store import notifications as stored
from oltp.store.notifications import CallUnderWay
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import find
from oltp.transaction import CommandTransaction

ANSWERED_KINDS = {
    NotificationKind.AUTHORIZATION_SUCCEEDED: (CallKind.AUTHORIZE,),
    NotificationKind.AUTHORIZATION_FAILED: (CallKind.AUTHORIZE,),
    NotificationKind.AUTHORIZATION_VOIDED: (CallKind.VOID, CallKind.GIVE_UP),
    NotificationKind.CAPTURE_SUCCEEDED: (CallKind.CAPTURE,),
    NotificationKind.CAPTURE_FAILED: (CallKind.CAPTURE,),
    NotificationKind.REFUND_SUCCEEDED: (CallKind.REFUND,),
    NotificationKind.REFUND_FAILED: (CallKind.REFUND,),
    NotificationKind.PAYMENT_PENDING: (CallKind.TRANSFER, CallKind.DEBIT),
    NotificationKind.PAYMENT_FAILED: (CallKind.TRANSFER, CallKind.DEBIT),
    NotificationKind.PAYMENT_GIVEN_BACK: (CallKind.GIVE_BACK,),
    NotificationKind.PAYMENT_NOT_GIVEN_BACK: (CallKind.GIVE_BACK,),
}
"""The calls that a notification may be the answer to."""

ASKING: dict[str, type[ProviderCommand[Any, Any]]] = {
    command.__name__: command
    for command in (
        AuthorizePayment,
        AwaitPayment,
        CapturePayment,
        CompleteRefund,
        ExpirePayment,
        GiveBackUnallocated,
        ReleasePayment,
        VoidPayment,
    )
}
"""The commands that call the provider, by name."""


class ApplyNotification(Command[Settlement], frozen=True, kw_only=True):
    """Apply a stored notification of the payment provider; not offered to clients.

    Answers with what became of it. It needs no idempotency key: a notification that has ended changes nothing.
    """

    provider: Reference
    event_id: Reference

    def attempt(self, pod: CommandPod, request: Request) -> Settlement:
        """Lock the notification, record what it says, and settle it, in one transaction."""
        with transaction_of(pod, request) as opened:
            found = stored.lock(opened, self.provider, self.event_id)
            if found is None:
                raise InputError(f"No notification {self.event_id!r} of {self.provider} is stored here.")
            notification, state, age, directory_epoch = found
            if state is not NotificationState.PENDING:
                return Settlement(state=state)
            tx = residing(opened, self, directory_epoch)
            settlement = settlement_of(tx, notification)
            if settlement.state is NotificationState.PENDING and age > WAITS_AT_MOST:
                settlement = parked(settlement.reason)
            stored.settle(tx, self.provider, self.event_id, _noted(settlement))
            commit(tx)
        return settlement


def settlement_of(tx: CommandTransaction, notification: Notification) -> Settlement:
    """Record what a notification says, unless it is recorded, and return what became of it."""
    problem = problem_of(notification)
    if problem is not None:
        return parked(f"It cannot be applied: {problem}.")
    kind = NotificationKind(notification.type)
    under_way = stored.calls_about(tx, notification)
    answered = [one for one in under_way if one.call.kind in ANSWERED_KINDS.get(kind, ())]
    if answered:
        return _answer(tx, notification, answered)
    if under_way and kind is NotificationKind.AUTHORIZATION_SUCCEEDED:
        # Of the calls for an authorization only its void can be left: its order does not accept it any more.
        return applied("It is known, and being given up.")
    return _RECORDERS[kind](tx, notification)


def _answer(tx: CommandTransaction, notification: Notification, calls: Sequence[CallUnderWay]) -> Settlement:
    """Record the outcome of the calls that the notification answers; several commands may ask for one refund."""
    for one in calls:
        call = one.call
        if notification.currency not in (None, call.currency):
            return parked(f"It is about {notification.currency}; the call under way is about {call.currency}.")
        command = msgspec.json.decode(one.body, type=ASKING[one.command])
        try:
            command.record(replace(tx, idempotency_key=one.idempotency_key), call, _outcome(notification, call))
        except GatewayAmountError as error:
            return parked(str(error))
    if notification.type == NotificationKind.REFUND_FAILED:
        # The refund may be completed already, by a command of another key; then the call's outcome changes nothing.
        return _not_refunded(tx, notification)
    return applied()


def _outcome(notification: Notification, call: ProviderCall) -> Outcome:
    """Return what the provider would have answered to the call."""
    match NotificationKind(notification.type):
        case NotificationKind.AUTHORIZATION_SUCCEEDED:
            return Moved(reference=notification.authorization_reference or "", amount_minor=amount_of(notification))
        case NotificationKind.PAYMENT_PENDING:
            return Moved(
                reference=notification.authorization_reference or "",
                amount_minor=amount_of(notification),
                pay_to=stored_reference(notification.pay_to),
            )
        case (
            NotificationKind.CAPTURE_SUCCEEDED | NotificationKind.REFUND_SUCCEEDED | NotificationKind.PAYMENT_GIVEN_BACK
        ):
            return Moved(
                reference=recorded_reference(notification.reference or ""), amount_minor=amount_of(notification)
            )
        case NotificationKind.AUTHORIZATION_VOIDED:
            return Moved(reference=notification.reference or "", amount_minor=call.amount_minor)
        case _:
            return GatewayDeclinedError(reason_of(notification))


def _authorized(tx: CommandTransaction, notification: Notification) -> Settlement:
    payment = payment_of(tx, notification)
    if payment is None:
        return waits("No order claims this authorization.")
    said, is_live = amount_of(notification), payment.status in (PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED)
    if is_live and (said, notification.currency) != (payment.authorized_minor, payment.currency):
        return parked(other_amount(notification, payment, payment.authorized_minor))
    return applied()


def _let_go(tx: CommandTransaction, notification: Notification) -> Settlement:
    """An authorization was let go, or failed after all: record it as released by the provider."""
    payment = payment_of(tx, notification)
    if payment is None:
        if NotificationKind(notification.type) is NotificationKind.AUTHORIZATION_FAILED:
            return applied("Nothing was set aside, and nothing is recorded.")
        if stored.end_unclaimed(tx, notification, "The provider has let it go, and no order claimed it."):
            return applied("No order claimed this authorization.")
        return waits("Nothing here claims the authorization that was let go.")
    if left_to_capture_minor(payment) == 0:
        return applied()
    calls = calls_of_order(tx, payment.merchant_id, payment.order_id)()
    if any(call.payment_id == payment.payment_id and call.kind is CallKind.CAPTURE for call in calls):
        return waits("A capture of this authorization is under way.")
    names: dict[str, Any] = {"merchant_id": payment.merchant_id, "payment_id": payment.payment_id}
    try:
        if payment.status is PaymentStatus.PENDING:
            # Nobody here has asked for it, so it is as with a bank that does not pay: the order ends, too.
            FailPayment(**names, failure_reason=reason_of(notification)).run(tx)
        else:
            ReleasePayment(**names, is_released_by_provider=True).run(tx)
    except ConflictError as conflict:
        return waits(str(conflict))
    return applied()


def _captured(tx: CommandTransaction, notification: Notification) -> Settlement:
    payment, reference = payment_of(tx, notification), recorded_reference(notification.reference or "")
    found = [one for one in payment.captures if one.provider_reference == reference] if payment else []
    if payment is None or not found:
        return waits("No capture of this reference is recorded.")
    if (found[0].amount_minor, payment.currency) != (amount_of(notification), notification.currency):
        return parked(other_amount(notification, payment, found[0].amount_minor))
    return applied()


def _not_captured(tx: CommandTransaction, notification: Notification) -> Settlement:
    payment, reference = payment_of(tx, notification), recorded_reference(notification.reference or "")
    if payment is not None and any(reference and one.provider_reference == reference for one in payment.captures):
        return parked(f"The capture is recorded in payment {payment.payment_id}, and the provider says that it failed.")
    return applied("Nothing was taken, and nothing is recorded.")


def _refunded(tx: CommandTransaction, notification: Notification) -> Settlement:
    refund = _refund(tx, notification)
    if refund is None:
        return waits("No refund here has this key: the provider gave money back that nobody here asked for.")
    said = (amount_of(notification), notification.currency)
    if refund.gift_card_id is not None or said != (refund.amount_minor, refund.currency):
        return parked(_other_refund(notification, refund))
    if refund.status is RefundStatus.COMPLETED:
        return applied()
    if refund.status is RefundStatus.FAILED:
        if refund.completed_at is not None or stored.has_applied(tx, notification, NotificationKind.REFUND_FAILED):
            return applied("It failed after it had succeeded, and that is recorded.")
        return parked(f"Refund {refund.refund_id} is recorded as failed, and the provider says that it has paid it.")
    command = CompleteRefund(merchant_id=refund.merchant_id, refund_id=refund.refund_id)
    found = command.load(tx)
    # The money has gone back: it is recorded also where the provider would not be asked for it now.
    call = command.call_for(found)
    command.conclude(tx, found, call, _outcome(notification, call), is_abandoned=False)
    return applied()


def _not_refunded(tx: CommandTransaction, notification: Notification) -> Settlement:
    refund = _refund(tx, notification)
    if refund is None:
        return applied("No money moved, and no refund here has this key.")
    if refund.status is RefundStatus.FAILED:
        return applied()
    names: dict[str, Any] = {"merchant_id": refund.merchant_id, "refund_id": refund.refund_id}
    if refund.status is RefundStatus.COMPLETED:
        return _reversed(tx, notification, refund, names)
    FailRefund(**names, failure_reason=reason_of(notification)).run(tx)
    return applied()


def _reversed(
    tx: CommandTransaction, notification: Notification, refund: RefundState, names: dict[str, Any]
) -> Settlement:
    """A refund failed after it had succeeded; the notification need not say its amount, but no other one."""
    said = (notification.amount_minor, notification.currency)
    recorded = (refund.amount_minor, refund.currency)
    if refund.gift_card_id is not None or any(
        one not in (None, known) for one, known in zip(said, recorded, strict=True)
    ):
        return parked(_other_refund(notification, refund))
    try:
        ReverseRefund(**names, failure_reason=reason_of(notification)).run(tx)
    except ConflictError as conflict:
        return waits(str(conflict))
    return applied()


def _refund(tx: CommandTransaction, notification: Notification) -> RefundState | None:
    """Return the refund whose id is in the idempotency key of our call."""
    key = notification.idempotency_key or ""
    refund_id = key.removeprefix(f"{notification.merchant_id}/refund/")
    if refund_id == key or UUID.problem(refund_id):
        return None
    return find(tx, RefundState, notification.merchant_id, refund_id, lock=False)


def _disputed(tx: CommandTransaction, notification: Notification) -> Settlement:
    """A dispute was opened, won or lost. Its end may come first; then it waits for the opening."""
    payment, reference = payment_of(tx, notification), recorded_reference(notification.reference or "")
    if payment is None:
        return waits("No payment here has the disputed authorization.")
    kind, known = NotificationKind(notification.type), dispute_named(payment, reference)
    names: dict[str, Any] = {
        "merchant_id": payment.merchant_id,
        "payment_id": payment.payment_id,
        "provider_reference": reference,
    }
    if kind is NotificationKind.DISPUTE_OPENED:
        return _opened(tx, notification, payment, names, known)
    if known is None:
        return waits(f"Payment {payment.payment_id} has no dispute {reference} yet.")
    is_won = kind is NotificationKind.DISPUTE_WON
    other = contradiction(notification, payment, known.amount_minor, known.fee_minor, says_all=False)
    if other is not None:
        return parked(other)
    if known.status is DisputeStatus.OPENED:
        EndDispute(**names, is_won=is_won).run(tx)
        return applied()
    if known.status is not (DisputeStatus.WON if is_won else DisputeStatus.LOST):
        return parked(f"Dispute {reference} is recorded as {known.status}, and the provider says {kind}.")
    return applied()


def _opened(
    tx: CommandTransaction,
    notification: Notification,
    payment: PaymentState,
    names: dict[str, Any],
    known: PaymentDispute | None,
) -> Settlement:
    if known is not None:
        other = contradiction(notification, payment, known.amount_minor, known.fee_minor, says_all=True)
        return applied() if other is None else parked(other)
    if notification.currency != payment.currency:
        return parked(other_amount(notification, payment, payment.captured_minor))
    amount_minor, fee_minor = amount_of(notification), notification.fee_minor
    if amount_minor > payment.captured_minor - taken_back_minor(payment):
        return waits(f"More is disputed than payment {payment.payment_id} has captured.")
    command = OpenDispute(**names, amount_minor=amount_minor, fee_minor=fee_minor, reason=reason_of(notification))
    check_fields(command)
    command.run(tx)
    return applied()


def _noted(settlement: Settlement) -> Settlement:
    return msgspec.structs.replace(settlement, reason=visible(settlement.reason)[: NOTE.longest])


def _other_refund(notification: Notification, refund: RefundState) -> str:
    if refund.gift_card_id is not None:
        says = "it failed" if notification.type == NotificationKind.REFUND_FAILED else "it has paid it, too"
        return f"Refund {refund.refund_id} was paid onto a gift card, and the provider says that {says}."
    recorded = in_words(refund.amount_minor, refund.currency)
    says = in_words(amount_of(notification), notification.currency)
    return f"Refund {refund.refund_id}: {recorded} are recorded, and the provider says {says}."


_RECORDERS: dict[NotificationKind, Callable[[CommandTransaction, Notification], Settlement]] = {
    NotificationKind.AUTHORIZATION_SUCCEEDED: _authorized,
    NotificationKind.AUTHORIZATION_FAILED: _let_go,
    NotificationKind.AUTHORIZATION_VOIDED: _let_go,
    NotificationKind.CAPTURE_SUCCEEDED: _captured,
    NotificationKind.CAPTURE_FAILED: _not_captured,
    NotificationKind.REFUND_SUCCEEDED: _refunded,
    NotificationKind.REFUND_FAILED: _not_refunded,
    NotificationKind.DISPUTE_OPENED: _disputed,
    NotificationKind.DISPUTE_WON: _disputed,
    NotificationKind.DISPUTE_LOST: _disputed,
    **LATER_MONEY,
}
"""What each kind records when it answers no call that is under way."""
