"""Record by hand what the payment provider says of a dispute, e.g. in a letter or on its pages.

A person takes the provider's place: what was said goes the way of a notification (`settlement_of`), so a notification
of the same fact, before or after, changes nothing more. Unlike a notification it never waits: what cannot be recorded
now is refused, and nothing is stored. Who said it, and why, stays with the notifications for ever.
"""

from __future__ import annotations

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.common import Value
from contracts.events.payment import DisputeStatus, PaymentDispute, PaymentState
from contracts.limits import AmountOrNoneMinor, Note, Reference, Title, Uuid
from oltp.commands.apply_notification import settlement_of
from oltp.commands.execute import Command
from oltp.domain.disputes import dispute_named
from oltp.domain.notifications import Notification, NotificationKind, NotificationState
from oltp.store import notifications as stored
from oltp.store.rows import load
from oltp.transaction import CommandTransaction

KINDS = {
    DisputeStatus.OPENED: NotificationKind.DISPUTE_OPENED,
    DisputeStatus.WON: NotificationKind.DISPUTE_WON,
    DisputeStatus.LOST: NotificationKind.DISPUTE_LOST,
}


class RecordedDispute(Value, frozen=True, kw_only=True):
    """A dispute as it stands after a person has said what happened to it."""

    merchant_id: str
    payment_id: str
    currency: str
    """Of the dispute's amounts."""
    dispute: PaymentDispute
    is_new: bool
    """Whether this has changed the books; false: they had it already."""
    notification_id: str | None
    """Under which who said it, and why, is kept; null: nothing was recorded by it."""


class RecordDispute(Command[RecordedDispute], frozen=True, kw_only=True):
    """Record by hand that a dispute about a payment was opened, won or lost; for operators.

    Opened needs the amount, and may have the provider's fee; an end has neither. What is recorded already changes
    nothing. ConflictError when the books say something else, or know no such dispute.
    """

    payment_id: Uuid
    provider_reference: Reference
    """The provider's name of the dispute: the one that its notifications have, too."""
    status: DisputeStatus
    amount_minor: AmountOrNoneMinor = 0
    fee_minor: AmountOrNoneMinor = 0
    reason: Note = ""
    """Why the customer's bank asks the money back."""
    recorded_by: Title
    recorded_because: Note

    def run(self, tx: CommandTransaction) -> RecordedDispute:
        """Return the dispute as it stands now."""
        self._require_whole()
        said = self._said(tx, load(tx, PaymentState, self.merchant_id, self.payment_id, lock=False))
        # Calls under way are locked before payments, as by a notification.
        stored.calls_about(tx, said)
        before = load(tx, PaymentState, self.merchant_id, self.payment_id)
        settlement = settlement_of(tx, said)
        if settlement.state is not NotificationState.APPLIED:
            raise ConflictError(settlement.reason)
        after = load(tx, PaymentState, self.merchant_id, self.payment_id, lock=False)
        dispute = dispute_named(after, self.provider_reference)
        if dispute is None:
            raise ConflictError(
                f"Another payment of {self.merchant_id} has the provider's reference {before.provider_reference}, too."
            )
        is_new = after.version != before.version
        if is_new:
            stored.insert_said(tx, said, reason=self.recorded_because, by=self.recorded_by)
        return RecordedDispute(
            merchant_id=self.merchant_id,
            payment_id=self.payment_id,
            currency=after.currency,
            dispute=dispute,
            is_new=is_new,
            notification_id=said.id if is_new else None,
        )

    def _require_whole(self) -> None:
        if self.status is DisputeStatus.OPENED:
            if self.amount_minor == 0:
                raise InputError("A dispute that is opened needs the disputed amount.")
        elif self.amount_minor or self.fee_minor:
            raise InputError("The amount and the fee are said when a dispute is opened, not when it ends.")
        for name, text in (("recorded_by", self.recorded_by), ("recorded_because", self.recorded_because)):
            if not text.strip():
                raise InputError(f"{name} is missing: who says so, and why, is kept.")

    def _said(self, tx: CommandTransaction, payment: PaymentState) -> Notification:
        if payment.gift_card_id is not None:
            raise InputError(f"Payment {payment.payment_id} was made with a gift card; no bank disputes it.")
        said = Notification(
            id=f"hand-{tx.new_id()}",
            type=KINDS[self.status],
            merchant_id=self.merchant_id,
            created_at=tx.occurred_at,
            authorization_reference=payment.provider_reference,
            reference=self.provider_reference,
            reason=self.reason,
        )
        if self.status is not DisputeStatus.OPENED:
            return said
        amounts = {"amount_minor": self.amount_minor, "fee_minor": self.fee_minor, "currency": payment.currency}
        return msgspec.structs.replace(said, **amounts)
