"""Events of a merchant: who it is, what it may sell in, how it is taxed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value
from contracts.limits import AmountOrNoneMinor, Currency, Jurisdiction, OwedTo, RatePpm, TaxCategory, Title


class MerchantEvent(StrEnum):
    """What can happen to a merchant."""

    MERCHANT_REGISTERED = "merchant_registered"
    MERCHANT_CONFIGURED = "merchant_configured"
    MERCHANT_RESTATED = "merchant_restated"
    """Stated again as it is, because a write had bypassed the outbox."""


# Defaults are left out of the body that a command's key stands for: a key from before a field was added still fits.
class TaxRate(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One tax rate of a merchant; `rate_ppm` in parts per million (200_000 = 20 %).

    A category has one rate, or several taxes on the same amount, each of which names where it is owed.
    """

    KEY: ClassVar[tuple[str, ...]] = ("jurisdiction", "tax_category", "owed_to")

    jurisdiction: Jurisdiction
    """Where the merchant sells from for this rate to hold."""
    tax_category: TaxCategory
    """Of what is sold."""
    rate_ppm: RatePpm
    """In parts per million."""
    owed_to: OwedTo = ""
    """Where this tax is owed, e.g. ``CA-QST``; empty: in `jurisdiction`, as the one tax of its category."""


class MerchantState(AggregateState, frozen=True, kw_only=True):
    """A merchant's configuration; prices of all its products are in `currency`."""

    AGGREGATE_TYPE: ClassVar[str] = "merchant"
    ID_FIELD: ClassVar[str] = "merchant_id"

    name: Title
    """Display name."""
    currency: Currency
    """Of all its prices, an ISO 4217 code."""
    is_active: bool
    """Whether the merchant trades."""
    is_tax_inclusive: bool
    """Whether the merchant's prices contain the tax."""
    jurisdiction: str
    """Where the merchant sells from; selects the tax rates of its sales."""
    shipping_fee_minor: AmountOrNoneMinor
    """Shipping fee of an order."""
    free_shipping_from_minor: AmountOrNoneMinor | None
    """Value of the goods from which shipping is free; None: it never is."""
    tax_rates: list[TaxRate]
    """Ordered by (jurisdiction, tax_category, owed_to); unique in them. Table merchant_tax_rates."""
    registered_at: datetime
    """When the merchant was registered."""
