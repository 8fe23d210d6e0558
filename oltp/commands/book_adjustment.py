"""Book an adjustment: money in a merchant's books that belongs to no order, exact to the micro-unit."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from contracts.events.adjustment import AdjustmentEvent, AdjustmentKind, AdjustmentState
from contracts.events.merchant import MerchantState
from contracts.limits import (
    Currency,
    CustomerId,
    Note,
    Reference,
    SignedAmountMicro,
    SignedQuantity,
    Sku,
    Source,
    TaxCategory,
)
from oltp.commands.execute import Command
from oltp.domain.adjustments import TaxBasis, adjustment_amounts, adjustment_tax
from oltp.store.rows import ask, save
from oltp.transaction import CommandTransaction


# Defaults are left out of the hashed body, so a key from before a field was added still matches.
class BookAdjustment(Command[AdjustmentState], frozen=True, kw_only=True, omit_defaults=True):
    """Book `amount_micro` (signed; negative: the merchant gets less). To correct an adjustment, book another one.

    `tax_category`: the amount contains tax at the merchant's rate for this category, as in a return without an order.
    None: the amount contains no tax.
    """

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
    tax_category: TaxCategory | None = None

    def run(self, tx: CommandTransaction) -> AdjustmentState:
        """Return the adjustment; InputError for an amount of 0, an unknown currency or tax category."""
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
            **msgspec.structs.asdict(self._tax(tx, amount_minor)),
        )
        return save(tx, None, adjustment, AdjustmentEvent.ADJUSTMENT_BOOKED)

    def _tax(self, tx: CommandTransaction, amount_minor: int) -> TaxBasis:
        if self.tax_category is None:
            return TaxBasis()
        ask_merchant = tx.once(
            ("merchant", self.merchant_id),
            lambda: ask(tx, MerchantState, self.merchant_id, self.merchant_id, lock=False),
        )
        return adjustment_tax(ask_merchant(), self.tax_category, amount_minor)
