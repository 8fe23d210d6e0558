"""Register a merchant in this pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec.structs import replace

from contracts.errors import InputError, PodFencedError
from contracts.events.merchant import (
    BANK_TRANSFER_DAYS,
    DIRECT_DEBIT_DAYS,
    MerchantEvent,
    MerchantState,
    Synonym,
    TaxRate,
)
from contracts.limits import (
    AMOUNT_MICRO_MAX,
    RATE_PPM,
    SYNONYMS,
    TAX_RATES,
    TAXES_MAX,
    AmountOrNoneMinor,
    Currency,
    Jurisdiction,
    MerchantId,
    Title,
    WaitDays,
)
from contracts.money import micro_per_minor, require_current
from contracts.text import visible
from oltp.commands.execute import Command
from oltp.store.rows import save
from oltp.transaction import CommandTransaction

_RESIDE = "insert into oltp.residents (merchant_id, directory_epoch) values (%s, %s)"


class RegisterMerchant(Command[MerchantState], frozen=True, kw_only=True):
    """A new merchant with its whole configuration; amounts in minor units of `currency`."""

    REGISTERS = True
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset(
        {"synonyms", "bank_transfer_days", "direct_debit_days", "ships_before_paid"}
    )

    merchant_id: MerchantId
    name: Title
    currency: Currency
    is_tax_inclusive: bool
    jurisdiction: Jurisdiction
    shipping_fee_minor: AmountOrNoneMinor = 0
    free_shipping_from_minor: AmountOrNoneMinor | None = None
    tax_rates: Annotated[list[TaxRate], TAX_RATES] = msgspec.field(default_factory=list)
    synonyms: Annotated[list[Synonym], SYNONYMS] = msgspec.field(default_factory=list)
    bank_transfer_days: WaitDays = BANK_TRANSFER_DAYS
    direct_debit_days: WaitDays = DIRECT_DEBIT_DAYS
    ships_before_paid: bool = False

    def run(self, tx: CommandTransaction) -> MerchantState:
        """Return the merchant; PodFencedError when the directory places it in another pod."""
        require_current(self.currency)
        merchant = MerchantState(
            merchant_id=self.merchant_id,
            version=1,
            name=self.name,
            currency=self.currency,
            is_active=True,
            is_tax_inclusive=self.is_tax_inclusive,
            jurisdiction=self.jurisdiction,
            shipping_fee_minor=self.shipping_fee_minor,
            free_shipping_from_minor=self.free_shipping_from_minor,
            tax_rates=ordered_rates(self.tax_rates),
            registered_at=tx.occurred_at,
            synonyms=ordered_synonyms(self.synonyms),
            bank_transfer_days=self.bank_transfer_days,
            direct_debit_days=self.direct_debit_days,
            ships_before_paid=self.ships_before_paid,
        )
        check_merchant(merchant)
        epoch = _directory_epoch(tx, self.merchant_id)
        save(replace(tx, directory_epoch=epoch), None, merchant, MerchantEvent.MERCHANT_REGISTERED)
        tx.query(_RESIDE, (self.merchant_id, epoch))
        return merchant


def ordered_rates(rates: Sequence[TaxRate]) -> list[TaxRate]:
    """Return tax rates in the order of the state; InputError when a rate is given twice.

    A category has one rate, or several rates that each name where the tax is owed, and at most `TAXES_MAX` rates.
    """
    by_category: dict[tuple[str, str], list[TaxRate]] = {}
    for rate in rates:
        by_category.setdefault((rate.jurisdiction, rate.tax_category), []).append(rate)
    for (jurisdiction, category), taxes in by_category.items():
        _check_taxes(f"tax_rates: category {visible(category)!r} in {visible(jurisdiction)}", taxes)
    return sorted(rates, key=lambda rate: (rate.jurisdiction, rate.tax_category, rate.owed_to))


def ordered_synonyms(synonyms: Sequence[Synonym]) -> list[Synonym]:
    """Return synonyms in the order of the state; InputError when one is given twice, or says nothing."""
    pairs = [(synonym.words, synonym.means) for synonym in synonyms]
    for number, (words, means) in enumerate(pairs):
        if not any(map(str.isalnum, words)) or not any(map(str.isalnum, means)):
            raise InputError(f"synonyms[{number}] needs a letter or a digit in its words and in what they mean.")
        if words.casefold().split() == means.casefold().split():
            raise InputError(f"synonyms[{number}]: {visible(words)!r} means itself.")
    if len(set(pairs)) != len(pairs):
        twice = next(pair for pair in pairs if pairs.count(pair) > 1)
        raise InputError(f"The synonym {visible(twice[0])!r} for {visible(twice[1])!r} is given twice.")
    return sorted(synonyms, key=lambda synonym: (synonym.words, synonym.means))


def _check_taxes(subject: str, taxes: Sequence[TaxRate]) -> None:
    owed_to = {rate.owed_to for rate in taxes}
    if len(owed_to) != len(taxes):
        raise InputError("A tax rate is given twice for the same jurisdiction and category.")
    if "" in owed_to and len(taxes) > 1:
        raise InputError(f"{subject} has several taxes; each needs an owed_to.")
    rate_ppm = sum(rate.rate_ppm for rate in taxes)
    if len(taxes) > TAXES_MAX or rate_ppm > RATE_PPM.most:
        raise InputError(
            f"{subject} has {len(taxes)} taxes of {rate_ppm:,} parts per million together; it has at most {TAXES_MAX}, "
            f"of {RATE_PPM.most:,}."
        )


def check_merchant(merchant: MerchantState) -> None:
    """Raise InputError for a contradictory configuration."""
    if not merchant.merchant_id or merchant.merchant_id != merchant.merchant_id.strip() or "/" in merchant.merchant_id:
        raise InputError("A merchant id is a short text without spaces around it and without a slash.")
    amounts = (merchant.shipping_fee_minor, merchant.free_shipping_from_minor or 0)
    if min(amounts) < 0 or any(rate.rate_ppm < 0 for rate in merchant.tax_rates):
        raise InputError("Shipping fees and tax rates cannot be negative.")
    if max(amounts) * micro_per_minor(merchant.currency) > AMOUNT_MICRO_MAX:
        raise InputError("The shipping fee, or the amount from which shipping is free, is more than an order can hold.")


def _directory_epoch(tx: CommandTransaction, merchant_id: str) -> int:
    if tx.directory is None:
        return 1
    placement = tx.directory.assign(merchant_id, tx.pod)
    if placement.pod != tx.pod:
        raise PodFencedError(f"Merchant {merchant_id!r} lives in {placement.pod}, not in {tx.pod}.")
    return placement.epoch
