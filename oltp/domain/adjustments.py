"""An adjustment: money of a merchant's books that belongs to no order, exact to the micro-unit."""

from __future__ import annotations

from contracts.errors import InputError
from contracts.events.common import Value
from contracts.events.merchant import MerchantState
from contracts.money import line_amount, tax_of


class AdjustmentTax(Value, frozen=True, kw_only=True):
    """The tax in an adjustment and its basis; the fields are those of AdjustmentState."""

    tax_minor: int = 0
    jurisdiction: str | None = None
    tax_category: str | None = None
    rate_ppm: int | None = None


def adjustment_tax(merchant: MerchantState, tax_category: str, amount_minor: int) -> AdjustmentTax:
    """Return the tax that a signed amount contains at the merchant's rate; InputError when it declares none."""
    for rate in merchant.tax_rates:
        if (rate.jurisdiction, rate.tax_category) == (merchant.jurisdiction, tax_category):
            return AdjustmentTax(
                tax_minor=tax_of(amount_minor, rate.rate_ppm, is_inclusive=True),
                jurisdiction=rate.jurisdiction,
                tax_category=tax_category,
                rate_ppm=rate.rate_ppm,
            )
    raise InputError(
        f"Merchant {merchant.merchant_id} declares no tax rate for category {tax_category!r} in "
        f"{merchant.jurisdiction}; configure one (0 is a rate)."
    )


def adjustment_amounts(amount_micro: int, currency: str) -> tuple[int, int]:
    """Return (amount_minor, rounding_micro) of a signed exact amount; InputError for 0, which changes nothing."""
    if amount_micro == 0:
        raise InputError("An adjustment of 0 changes nothing; it is not booked.")
    return line_amount(1, amount_micro, currency)
