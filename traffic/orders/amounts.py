"""Conversion of a file's decimals to integers in minor or micro-units; names of tax categories.

Belongs here: exact conversion, and the reason when a decimal cannot be converted. Does not belong here: rules of money
(`contracts/money.py`, `oltp/domain/`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

from contracts.errors import InputError
from contracts.events.merchant import TaxRate
from contracts.limits import AMOUNT_MICRO_MAX, RATE_PPM, TAX_CATEGORY
from contracts.money import CURRENCY_EXPONENTS, format_minor
from contracts.text import counted
from oltp.commands.register_merchant import ordered_rates
from traffic.orders.format import Tax
from traffic.orders.mapping import RejectedError

UNTAXED = "untaxed"
"""Tax category of lines without a tax."""
_DIGITS_MAX = 20
_PPM_DIGITS = 4
_MICRO_DIGITS = 6


def minor_of(amount: Decimal, currency: str, what: str) -> int:
    """Return an amount >= 0 in minor units; RejectedError when negative or with more decimals than the currency."""
    return _scaled(amount, CURRENCY_EXPONENTS[currency], what, "amount_too_fine", currency)


def micro_of(amount: Decimal, what: str) -> int:
    """Return a price >= 0 in micro-units; RejectedError when it is negative or has more than six decimals."""
    return _scaled(amount, _MICRO_DIGITS, what, "price_too_fine", "")


def ppm_of(rate_percent: Decimal) -> int:
    """Return a tax rate in parts per million."""
    ppm = _scaled(rate_percent, _PPM_DIGITS, "a tax rate", "tax_rate_not_possible", "percent")
    if ppm > RATE_PPM.most:
        raise RejectedError("tax_rate_not_possible", f"a tax rate is {rate_percent} percent")
    return ppm


def rates_of(jurisdiction: str, taxes: Sequence[Tax]) -> list[TaxRate]:
    """Return the rates of the tax category for these taxes; RejectedError when they cannot form one category."""
    category = category_of(taxes)
    rates = [
        TaxRate(
            jurisdiction=jurisdiction,
            tax_category=category,
            rate_ppm=ppm_of(tax.rate_percent),
            owed_to=tax.owed_to,
        )
        for tax in taxes
    ] or [TaxRate(jurisdiction=jurisdiction, tax_category=category, rate_ppm=0)]
    try:
        return ordered_rates(rates)
    except InputError as error:
        raise RejectedError("taxes_not_possible_together", str(error)) from None


def category_of(taxes: Sequence[Tax]) -> str:
    """Return the category's name, built from the taxes: ``19 %``, ``CA 5 % + CA-QST 9.975 %``."""
    if not taxes:
        return UNTAXED
    names = sorted(f"{tax.owed_to} {_plain(tax.rate_percent)} %".strip() for tax in taxes)
    name = " + ".join(names)
    if TAX_CATEGORY.problem(name) is None:
        return name
    return f"taxes {hashlib.sha256(name.encode()).hexdigest()[:16]}"


def shown(amount_minor: int, currency: str) -> str:
    """Return an amount with its currency."""
    return f"{format_minor(amount_minor, currency)} {currency}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"


def _scaled(number: Decimal, digits: int, what: str, reason: str, unit: str) -> int:
    is_long = number.is_finite() and max(abs(number.adjusted()), len(number.as_tuple().digits)) > _DIGITS_MAX
    if is_long or not number.is_finite():
        raise RejectedError("number_out_of_range", f"{what} is {str(number)[:40]}")
    if number < 0:
        raise RejectedError("amount_is_negative", f"{what} is {number:f}")
    scaled = number.scaleb(digits)
    if scaled != scaled.to_integral_value():
        raise RejectedError(reason, f"{what} is {number:f}, finer than {counted(digits, 'decimal')} {unit}".rstrip())
    if scaled > AMOUNT_MICRO_MAX:
        raise RejectedError("number_out_of_range", f"{what} is {number:f}")
    return int(scaled)
