"""An adjustment: money of a merchant's books that belongs to no order, exact to the micro-unit."""

from __future__ import annotations

from contracts.errors import InputError
from contracts.money import line_amount


def adjustment_amounts(amount_micro: int, currency: str) -> tuple[int, int]:
    """Return (amount_minor, rounding_micro) of a signed exact amount; InputError for 0, which changes nothing."""
    if amount_micro == 0:
        raise InputError("An adjustment of 0 changes nothing; it is not booked.")
    return line_amount(1, amount_micro, currency)
