"""Record what the payment provider says of money that comes later: pending, received, failed, returned, given back.

Belongs here: what each of these records when it answers no call that is under way. Does not belong here: when that is
asked, and all other kinds (`apply_notification.py`).

They may come in any order, twice, or beside a person who records the same: a receipt is known by its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from contracts.errors import ConflictError, InputError
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.limits import NOTE
from contracts.text import visible
from oltp.commands.asking import recorded_reference
from oltp.commands.checking import check_fields
from oltp.commands.execute import Command
from oltp.commands.fail_payment import FailPayment
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.reading_notifications import amount_of, contradiction, other_amount, payment_of, reason_of
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.return_payment import ReturnPayment
from oltp.domain.notifications import Notification, NotificationKind, Settlement, applied, parked, waits
from oltp.domain.pending_payments import receipt_named
from oltp.transaction import CommandTransaction


def _pending(tx: CommandTransaction, notification: Notification) -> Settlement:
    payment = _awaited(tx, notification)
    if isinstance(payment, Settlement):
        return payment
    is_declined = payment.status is PaymentStatus.DECLINED
    said = (amount_of(notification), notification.currency)
    if not is_declined and said != (payment.authorized_minor, payment.currency):
        return parked(other_amount(notification, payment, payment.authorized_minor))
    return applied()


def _received(tx: CommandTransaction, notification: Notification) -> Settlement:
    """Money came: it is captured or unallocated, whatever has become of the payment since."""
    payment = _awaited(tx, notification)
    if isinstance(payment, Settlement):
        return payment
    reference = recorded_reference(notification.reference or "")
    known = receipt_named(payment, reference)
    if notification.currency != payment.currency:
        return parked(other_amount(notification, payment, payment.authorized_minor))
    if known is not None:
        if known.amount_minor != amount_of(notification):
            return parked(other_amount(notification, payment, known.amount_minor))
        return applied()
    command = ReceivePayment(
        merchant_id=payment.merchant_id,
        payment_id=payment.payment_id,
        provider_reference=reference,
        amount_minor=amount_of(notification),
        reason=visible(notification.reason)[: NOTE.longest],
    )
    return _recorded(tx, command)


def _failed(tx: CommandTransaction, notification: Notification) -> Settlement:
    if notification.authorization_reference is None:
        return applied("Nothing is waited for, and nothing is recorded.")
    payment = _awaited(tx, notification)
    if isinstance(payment, Settlement):
        return payment
    if payment.status is PaymentStatus.CAPTURED:
        return parked(f"Payment {payment.payment_id} has money, and the provider says that the bank did not pay.")
    if payment.status is not PaymentStatus.PENDING:
        return applied()
    command = FailPayment(
        merchant_id=payment.merchant_id, payment_id=payment.payment_id, failure_reason=reason_of(notification)
    )
    try:
        command.run(tx)
    except ConflictError as conflict:
        return waits(str(conflict))
    return applied()


def _returned(tx: CommandTransaction, notification: Notification) -> Settlement:
    """The bank took a receipt back. This may be told before the receipt; then it waits for that."""
    payment = _awaited(tx, notification)
    if isinstance(payment, Settlement):
        return payment
    reference = recorded_reference(notification.reference or "")
    known = receipt_named(payment, reference)
    if known is None:
        return waits(f"Payment {payment.payment_id} has no receipt {reference} yet.")
    if (amount_of(notification), notification.currency) != (known.amount_minor, payment.currency):
        return parked(other_amount(notification, payment, known.amount_minor))
    if known.returned_minor:
        other = contradiction(notification, payment, known.amount_minor, known.fee_minor, says_all=True)
        return applied() if other is None else parked(other)
    command = ReturnPayment(
        merchant_id=payment.merchant_id,
        payment_id=payment.payment_id,
        provider_reference=reference,
        fee_minor=notification.fee_minor,
        reason=reason_of(notification),
    )
    return _recorded(tx, command, at_conflict=parked if known.given_back_minor else waits)


def _given_back(tx: CommandTransaction, notification: Notification) -> Settlement:
    """Unallocated money of a receipt was sent back. This may be told before the receipt; then it waits for that."""
    payment = _awaited(tx, notification)
    if isinstance(payment, Settlement):
        return payment
    reference = recorded_reference(notification.reference or "")
    known = receipt_named(payment, reference)
    if known is None:
        return waits(f"Payment {payment.payment_id} has no receipt {reference} yet.")
    there_minor = known.given_back_minor or known.unallocated_minor
    if (amount_of(notification), notification.currency) != (there_minor, payment.currency):
        return parked(other_amount(notification, payment, there_minor))
    if known.given_back_minor:
        return applied()
    command = GiveBackUnallocated(
        merchant_id=payment.merchant_id,
        payment_id=payment.payment_id,
        provider_reference=reference,
        reason=reason_of(notification),
    )
    return _recorded(tx, command)


def _recorded(
    tx: CommandTransaction, command: Command[PaymentState], *, at_conflict: Callable[[str], Settlement] = waits
) -> Settlement:
    """Run the command that records it. A conflict waits: somebody records the same now; the next attempt sees it."""
    try:
        check_fields(command)
        command.run(tx)
    except InputError as problem:
        return parked(str(problem))
    except ConflictError as conflict:
        return at_conflict(str(conflict))
    return applied()


def _not_given_back(tx: CommandTransaction, notification: Notification) -> Settlement:
    """It answers no call under way: the money is unallocated as before, unless it is recorded as gone."""
    payment = None if notification.authorization_reference is None else payment_of(tx, notification)
    known = None if payment is None else receipt_named(payment, recorded_reference(notification.reference or ""))
    if payment is not None and known is not None and known.given_back_minor:
        return parked(f"Payment {payment.payment_id}: the money is recorded as given back, and the provider says not.")
    return applied("Nothing was given back, and nothing is recorded.")


def _awaited(tx: CommandTransaction, notification: Notification) -> PaymentState | Settlement:
    payment = payment_of(tx, notification)
    if payment is None:
        return waits("No payment here has this reference.")
    if payment.method is None:
        return parked(f"Payment {payment.payment_id} is neither a bank transfer nor a direct debit.")
    return payment


LATER_MONEY: Mapping[NotificationKind, Callable[[CommandTransaction, Notification], Settlement]] = {
    NotificationKind.PAYMENT_PENDING: _pending,
    NotificationKind.PAYMENT_RECEIVED: _received,
    NotificationKind.PAYMENT_FAILED: _failed,
    NotificationKind.PAYMENT_RETURNED: _returned,
    NotificationKind.PAYMENT_GIVEN_BACK: _given_back,
    NotificationKind.PAYMENT_NOT_GIVEN_BACK: _not_given_back,
}
"""What each kind records."""
