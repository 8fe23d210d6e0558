"""Configure a merchant: the given fields replace the present ones."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from contracts.errors import ConflictError
from contracts.events.merchant import MerchantEvent, MerchantState, Synonym, TaxRate
from contracts.limits import SYNONYMS, TAX_RATES, AmountOrNoneMinor, Currency, Jurisdiction, Title, WaitDays
from contracts.money import require_current
from oltp.commands.execute import Command
from oltp.commands.register_merchant import check_merchant, ordered_rates, ordered_synonyms
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction

_HAS_PRICES = """
select exists (select from oltp.products where merchant_id = %(merchant_id)s)
    or exists (select from oltp.orders where merchant_id = %(merchant_id)s)
"""


class ConfigureMerchant(Command[MerchantState], frozen=True, kw_only=True):
    """Fields left out stay as they are; `tax_rates` replaces all rates, and `synonyms` all synonyms.

    The currency cannot change once the merchant has products, because their prices would change their meaning.
    """

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset(
        {"synonyms", "bank_transfer_days", "direct_debit_days", "ships_before_paid"}
    )

    name: Title | None = None
    currency: Currency | None = None
    is_active: bool | None = None
    is_tax_inclusive: bool | None = None
    jurisdiction: Jurisdiction | None = None
    shipping_fee_minor: AmountOrNoneMinor | None = None
    free_shipping_from_minor: AmountOrNoneMinor | msgspec.UnsetType | None = msgspec.UNSET
    """None: shipping is never free."""
    tax_rates: Annotated[list[TaxRate], TAX_RATES] | None = None
    synonyms: Annotated[list[Synonym], SYNONYMS] | None = None
    """Words of shoppers for which a search also looks for others."""
    bank_transfer_days: WaitDays | None = None
    """How long the money of later bank transfers is waited for."""
    direct_debit_days: WaitDays | None = None
    """How long the bank's answer to later direct debits is waited for."""
    ships_before_paid: bool | None = None
    """Whether orders may be fulfilled while their money is waited for."""

    def run(self, tx: CommandTransaction) -> MerchantState:
        """Return the merchant with its new configuration."""
        before = load(tx, MerchantState, self.merchant_id, self.merchant_id)
        changes = {name: value for name, value in self._given().items() if value is not None}
        if self.free_shipping_from_minor is not msgspec.UNSET:
            changes["free_shipping_from_minor"] = self.free_shipping_from_minor
        if self.tax_rates is not None:
            changes["tax_rates"] = ordered_rates(self.tax_rates)
        if self.synonyms is not None:
            changes["synonyms"] = ordered_synonyms(self.synonyms)
        after = msgspec.structs.replace(before, version=before.version + 1, **changes)
        check_merchant(after)
        if after.currency != before.currency:
            self._check_currency(tx, after.currency)
        return save(tx, before, after, MerchantEvent.MERCHANT_CONFIGURED)

    def _given(self) -> dict[str, object]:
        names = ("name", "currency", "is_active", "is_tax_inclusive", "jurisdiction", "shipping_fee_minor")
        waits = ("bank_transfer_days", "direct_debit_days", "ships_before_paid")
        return {name: getattr(self, name) for name in (*names, *waits)}

    def _check_currency(self, tx: CommandTransaction, currency: str) -> None:
        require_current(currency)
        row = tx.query(_HAS_PRICES, {"merchant_id": self.merchant_id}).fetchone()
        if row and row[0]:
            raise ConflictError(f"Merchant {self.merchant_id} has products; its currency can no longer change.")
