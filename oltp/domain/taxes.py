"""The taxes of one category: how much each tax is on an amount, and how much of each tax is given back.

Belongs here: one or several taxes on the same amount, and their shares. Does not belong here: which amount is taxed
(`pricing.py`, `adjustments.py`), and how much of a line's tax goes back (`refunds.py`, `orders.py`).

Tax on top of a price: each tax is rounded by itself on the taxable amount, and the line's tax is their sum. Tax in a
price: the total tax is computed with the sum of the rates, rounded once, and split by the rates. To keep the sum exact,
the first k taxes together get the rounded share of their rates.

Tax that is given back is allocated in proportion to what is left of each tax, by the largest remainder method. No share
exceeds what is left of its tax; giving back all that is left gives back all of each tax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import OrderLine, OrderLineTax
from contracts.money import allocate, round_half_away, tax_of


def rates_by_category(merchant: MerchantState) -> dict[str, list[TaxRate]]:
    """Return the tax rates of the merchant's own jurisdiction, by category, in the order of the state."""
    found: dict[str, list[TaxRate]] = {}
    for rate in merchant.tax_rates:
        if rate.jurisdiction == merchant.jurisdiction:
            found.setdefault(rate.tax_category, []).append(rate)
    return found


def require_rates(
    merchant: MerchantState, rates: Mapping[str, list[TaxRate]], tax_category: str, subject: str = ""
) -> list[TaxRate]:
    """Return the tax rates of a category; InputError, which begins with `subject`, when the merchant declares none."""
    if tax_category not in rates:
        raise InputError(
            f"{subject}Merchant {merchant.merchant_id} declares no tax rate for category {tax_category!r} in "
            f"{merchant.jurisdiction}; configure one (0 is a rate)."
        )
    return rates[tax_category]


def are_named(rates: Sequence[TaxRate]) -> bool:
    """Return whether each tax names where it is owed; then each tax is stored separately."""
    return bool(rates[0].owed_to)


def taxes_on(amount_minor: int, rates: Sequence[TaxRate], *, is_inclusive: bool) -> list[int]:
    """Return each tax in minor units: on a signed amount or, if `is_inclusive`, contained in it."""
    if not is_inclusive:
        return [tax_of(amount_minor, rate.rate_ppm, is_inclusive=False) for rate in rates]
    rate_ppm = sum(rate.rate_ppm for rate in rates)
    contained = tax_of(amount_minor, rate_ppm, is_inclusive=True)
    shares = (round_half_away(contained * ppm, rate_ppm or 1) for ppm in accumulate(rate.rate_ppm for rate in rates))
    return [after - before for before, after in pairwise([0, *shares])]


def line_taxes(merchant: MerchantState, lines: Sequence[OrderLine]) -> list[OrderLineTax]:
    """Return each tax of the lines whose taxes are named (`are_named`), in the order of the state."""
    found: list[OrderLineTax] = []
    by_category = rates_by_category(merchant)
    for line in lines:
        rates = by_category[line.tax_category]
        if are_named(rates):
            net_minor = line.amount_minor - line.discount_minor
            taxes = taxes_on(net_minor, rates, is_inclusive=line.is_tax_inclusive)
            found += [
                OrderLineTax(
                    order_line_id=line.order_line_id,
                    jurisdiction=rate.owed_to,
                    rate_ppm=rate.rate_ppm,
                    tax_minor=tax_minor,
                    cancelled_tax_minor=0,
                )
                for rate, tax_minor in zip(rates, taxes, strict=True)
            ]
    return sorted(found, key=lambda tax: (tax.order_line_id, tax.jurisdiction))


def given_back(tax_minor: int, taxes: Sequence[OrderLineTax], refunded: Mapping[str, int]) -> list[int]:
    """Return each tax's share of `tax_minor`, which is given back; `refunded`: minor units so far, by jurisdiction."""
    left = [tax.tax_minor - tax.cancelled_tax_minor - refunded.get(tax.jurisdiction, 0) for tax in taxes]
    if tax_minor > sum(left) or min(left, default=0) < 0:
        raise ConflictError("More tax would be given back for a line than is left of its taxes.")
    return allocate(tax_minor, left) if tax_minor else [0] * len(left)


def cancelled_taxes(
    taxes: Sequence[OrderLineTax],
    before: Sequence[OrderLine],
    after: Sequence[OrderLine],
    refunded: Mapping[str, Mapping[str, int]],
) -> list[OrderLineTax]:
    """Return the taxes with the newly cancelled tax of the lines; `refunded`: by order line id, by jurisdiction."""
    if not taxes:
        return []
    more = {
        new.order_line_id: new.cancelled_tax_minor - old.cancelled_tax_minor
        for old, new in zip(before, after, strict=True)
    }
    return [
        msgspec.structs.replace(tax, cancelled_tax_minor=tax.cancelled_tax_minor + part)
        for line_id, own in by_line(taxes).items()
        for tax, part in zip(own, given_back(more[line_id], own, refunded.get(line_id, {})), strict=True)
    ]


def by_line(taxes: Sequence[OrderLineTax]) -> dict[str, list[OrderLineTax]]:
    """Return the taxes by order line id, in the order given."""
    found: dict[str, list[OrderLineTax]] = {}
    for tax in taxes:
        found.setdefault(tax.order_line_id, []).append(tax)
    return found
