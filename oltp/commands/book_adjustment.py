"""Book an adjustment: money of a merchant's books that belongs to no order, exact to the micro-unit."""

from __future__ import annotations

from typing import ClassVar

from contracts.events.adjustment import AdjustmentEvent, AdjustmentKind, AdjustmentState
from contracts.limits import Currency, CustomerId, Note, Reference, SignedAmountMicro, SignedQuantity, Sku, Source
from oltp.commands.execute import Command
from oltp.domain.adjustments import adjustment_amounts
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class BookAdjustment(Command[AdjustmentState], frozen=True, kw_only=True):
    """Book `amount_micro` (signed; negative: the merchant gets less). A wrong one is answered by another."""

    IS_BATCHABLE: ClassVar[bool] = True

    kind: AdjustmentKind
    currency: Currency
    amount_micro: SignedAmountMicro
    quantity: SignedQuantity
    sku: Sku | None
    customer_id: CustomerId | None
    external_reference: Reference | None
    reason: Note
    source: Source

    def run(self, tx: CommandTransaction) -> AdjustmentState:
        """Return the adjustment; InputError for an amount of 0 or an unknown currency."""
        amount_minor, rounding_micro = adjustment_amounts(self.amount_micro, self.currency)
        adjustment = AdjustmentState(
            merchant_id=self.merchant_id,
            version=1,
            adjustment_id=tx.new_id(),
            kind=AdjustmentKind(self.kind),
            currency=self.currency,
            amount_minor=amount_minor,
            rounding_micro=rounding_micro,
            quantity=self.quantity,
            sku=self.sku,
            customer_id=self.customer_id,
            external_reference=self.external_reference,
            reason=self.reason,
            source=self.source,
            adjusted_at=tx.occurred_at,
        )
        return save(tx, None, adjustment, AdjustmentEvent.ADJUSTMENT_BOOKED)
