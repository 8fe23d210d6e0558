"""Money: integers with a currency, one rounding rule, and allocation that sums exactly.

There are two units. *Minor* units (pence, cents) are for amounts that are charged, owed or paid. *Micro* units (10**-6
of the major unit) are for unit prices and journal amounts, because real prices have fractions of a penny. No amount is
a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from contracts.currencies import EXPONENTS, WITHDRAWN, WITHOUT_MINOR_UNIT
from contracts.errors import InputError
from contracts.text import visible

PPM = 1_000_000
"""Tax rates are parts per million: 200_000 is 20 %."""

CURRENCY_EXPONENTS = EXPONENTS
"""Currency code -> exponent of its minor unit (0 to 4, ISO 4217). So a micro-unit is never larger than a minor unit."""


def micro_per_minor(currency: str) -> int:
    """Return how many micro-units one minor unit of `currency` is (GBP: 10_000).

    Raises InputError for a currency that Tieout does not know, or that has no minor unit.
    """
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        if currency in WITHOUT_MINOR_UNIT:
            raise InputError(f"{currency} is no currency to be paid in: ISO 4217 gives it no minor unit.")
        raise InputError(f"Currency {visible(currency)!r} is not known; use a code of ISO 4217, e.g. EUR.")
    return int(10 ** (6 - exponent))


def require_current(currency: str) -> None:
    """Raise InputError for a currency that is unknown, or that the standard has withdrawn."""
    micro_per_minor(currency)
    if currency in WITHDRAWN:
        raise InputError(f"{currency} was withdrawn from ISO 4217; a new merchant needs a current currency.")


def micro_per_minor_sql(currency: str, width: str) -> str:
    """Return SQL for `micro_per_minor` of the expression `currency`, null for a currency that Tieout does not know.

    `width` is the type of the result: `hugeint` in DuckDB, `numeric` in PostgreSQL, so that no product of it overflows.
    We search for the code in a text, not with `in`. DuckDB turns every long list after `in` into a join, once per use
    of the expression, and then even a small comparison exceeds its memory limit.
    """
    codes: dict[int, list[str]] = {}
    for code, exponent in CURRENCY_EXPONENTS.items():
        codes.setdefault(exponent, []).append(code)
    cases = (
        f"when strpos(' {' '.join(codes[exponent])} ', ' ' || {currency} || ' ') > 0 "
        f"then cast({10 ** (6 - exponent)} as {width})"
        for exponent in sorted(codes)
    )
    # The length is checked first, because strpos also finds two codes with the space between them.
    return f"case when length({currency}) <> 3 then null {' '.join(cases)} end"


def round_half_away(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded to an integer, halves away from zero: the only rounding rule.

    Raises ValueError unless `denominator` is positive.
    """
    if denominator <= 0:
        raise ValueError("denominator must be positive")
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def line_amount(quantity: int, unit_price_micro: int, currency: str) -> tuple[int, int]:
    """Return (amount_minor, rounding_micro) of a line; amount in micro-units plus rounding is the exact product.

    `rounding_micro` = quantity * unit_price_micro - amount_minor * micro_per_minor: the remainder of rounding.
    """
    exact_micro = quantity * unit_price_micro
    per_minor = micro_per_minor(currency)
    amount_minor = round_half_away(exact_micro, per_minor)
    return amount_minor, exact_micro - amount_minor * per_minor


def tax_of(amount_minor: int, rate_ppm: int, *, is_inclusive: bool) -> int:
    """Return the tax in minor units on (or, inclusive, contained in) `amount_minor` at `rate_ppm`."""
    base = PPM + rate_ppm if is_inclusive else PPM
    return round_half_away(amount_minor * rate_ppm, base)


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Split `amount` over `weights` by largest remainder; the parts sum to it exactly, the first index wins ties.

    Weights are >= 0 with a positive sum, else ValueError is raised. `amount` may be negative: then the parts are those
    of `-amount` with the sign changed.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError("weights must be >= 0 and not all zero")
    sign, size = (-1, -amount) if amount < 0 else (1, amount)
    parts = [size * weight // total for weight in weights]
    remainders = [size * weight % total for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in order[: size - sum(parts)]:
        parts[index] += 1
    return [sign * part for part in parts]


def portion(amount_minor: int, quantity: int, of_quantity: int) -> int:
    """Return the cumulative share of `amount_minor` that `quantity` of `of_quantity` units carry.

    A partial refund or cancellation is the difference of two such shares, before and after. These differences sum to
    `amount_minor` exactly, so the parts of a line never add up to more or less than the line.
    """
    return round_half_away(amount_minor * quantity, of_quantity)


def format_minor(amount_minor: int, currency: str) -> str:
    """Return the amount as a plain decimal string in major units, e.g. ``-12.05``."""
    exponent = CURRENCY_EXPONENTS[currency]
    return f"{Decimal(amount_minor).scaleb(-exponent):.{exponent}f}"


def in_major_units(column: str, value: object, currency: str | None) -> str | None:
    """Return an amount in major units for people, e.g. ``-12.05 EUR``, or ``0.125 EUR`` for a unit price.

    None when `column` is no amount (it ends neither in ``_minor`` nor in ``_micro``), when the value is missing, or
    when the currency is unknown, which can happen in a damaged row.
    """
    if not isinstance(value, int) or currency is None or currency not in CURRENCY_EXPONENTS:
        return None
    if column.endswith("_minor"):
        return f"{format_minor(value, currency)} {currency}"
    if not column.endswith("_micro"):
        return None
    whole, _, decimals = f"{Decimal(value).scaleb(-6):.6f}".partition(".")
    shown = decimals.rstrip("0").ljust(CURRENCY_EXPONENTS[currency], "0")
    return f"{whole}{'.' if shown else ''}{shown} {currency}"


def amount_name(column: str) -> str:
    """Return the column's name without its unit, for texts that show its values in major units."""
    return column.removesuffix("_minor").removesuffix("_micro")


def parse_micro(text: str) -> int:
    """Return a decimal string in major units as micro-units; InputError if it has more than six decimals."""
    try:
        scaled = Decimal(text).scaleb(6)
    except ArithmeticError:
        raise InputError(f"{text!r} is not a decimal amount.") from None
    if scaled != scaled.to_integral_value():
        raise InputError(f"{text!r} has more than six decimals.")
    return int(scaled)
