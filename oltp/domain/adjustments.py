"""An adjustment: money in a merchant's books that belongs to no order, exact to the micro-unit."""

from __future__ import annotations

import msgspec

from contracts.errors import InputError
from contracts.events.adjustment import AdjustmentTax
from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.money import line_amount
from oltp.domain.taxes import are_named, rates_by_category, require_rates, taxes_on


class TaxBasis(Value, frozen=True, kw_only=True):
    """The tax in an adjustment and its basis; the fields are fields of AdjustmentState."""

    tax_minor: int = 0
    jurisdiction: str | None = None
    tax_category: str | None = None
    rate_ppm: int | None = None
    taxes: list[AdjustmentTax] = msgspec.field(default_factory=list)


def adjustment_tax(merchant: MerchantState, tax_category: str, amount_minor: int) -> TaxBasis:
    """Return the tax that a signed amount contains at the merchant's rates; InputError when it declares no rate."""
    rates = require_rates(merchant, rates_by_category(merchant), tax_category)
    parts = taxes_on(amount_minor, rates, is_inclusive=True)
    taxes = [
        AdjustmentTax(jurisdiction=rate.owed_to, rate_ppm=rate.rate_ppm, tax_minor=part)
        for rate, part in zip(rates, parts, strict=True)
    ]
    return TaxBasis(
        tax_minor=sum(parts),
        jurisdiction=merchant.jurisdiction,
        tax_category=tax_category,
        rate_ppm=sum(rate.rate_ppm for rate in rates),
        taxes=taxes if are_named(rates) else [],
    )


def adjustment_amounts(amount_micro: int, currency: str) -> tuple[int, int]:
    """Return (amount_minor, rounding_micro) of a signed exact amount; InputError for 0, because it changes nothing."""
    if amount_micro == 0:
        raise InputError("An adjustment of 0 changes nothing; it is not booked.")
    return line_amount(1, amount_micro, currency)
