"""Events of a merchant: its name, its currency, its tax rates, and the words its shoppers use."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import (
    AmountOrNoneMinor,
    Currency,
    Jurisdiction,
    OwedTo,
    RatePpm,
    SynonymText,
    TaxCategory,
    Title,
    WaitDays,
)


class MerchantEvent(StrEnum):
    """What can happen to a merchant."""

    MERCHANT_REGISTERED = "merchant_registered"
    MERCHANT_CONFIGURED = "merchant_configured"
    MERCHANT_RESTATED = "merchant_restated"
    """The state is published again, because a write had bypassed the outbox."""


# A command's idempotency key is stored with a digest of its body. Fields with their default are left out of the body,
# so that a key from before a field was added still matches.
class TaxRate(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One tax rate of a merchant; `rate_ppm` in parts per million (200_000 = 20 %).

    A category has one rate, or several taxes on the same amount; then each tax names where it is owed.
    """

    KEY: ClassVar[tuple[str, ...]] = ("jurisdiction", "tax_category", "owed_to")

    jurisdiction: Jurisdiction
    """The rate applies when the merchant sells from here."""
    tax_category: TaxCategory
    """Tax category of the goods or services that are sold."""
    rate_ppm: RatePpm
    """In parts per million."""
    owed_to: OwedTo = ""
    """Where this tax is owed, e.g. ``CA-QST``; empty: in `jurisdiction`, because it is the only tax of its category."""


class Synonym(Value, frozen=True, kw_only=True):
    """Words for which a search also looks for others; the other way round it is a synonym of its own."""

    KEY: ClassVar[tuple[str, ...]] = ("words", "means")

    words: SynonymText
    """What a shopper types, one word or several."""
    means: SynonymText
    """What is looked for as well."""


BANK_TRANSFER_DAYS = 7
"""How long money is waited for, unless the merchant says otherwise: most customers transfer within days."""
DIRECT_DEBIT_DAYS = 14
"""Banks answer within about a week."""


class MerchantState(AggregateState, frozen=True, kw_only=True):
    """A merchant's configuration; prices of all its products are in `currency`."""

    AGGREGATE_TYPE: ClassVar[str] = "merchant"

    name: Title
    """Display name."""
    currency: Currency
    """Currency of all its prices, an ISO 4217 code."""
    is_active: bool
    """Whether the merchant trades."""
    is_tax_inclusive: bool
    """Whether the merchant's prices contain the tax."""
    jurisdiction: str
    """Where the merchant sells from; it selects the tax rates of the sales."""
    shipping_fee_minor: AmountOrNoneMinor
    """Shipping fee of an order."""
    free_shipping_from_minor: AmountOrNoneMinor | None
    """Shipping is free for orders whose goods have at least this value; None: it is never free."""
    tax_rates: list[TaxRate]
    """Ordered by (jurisdiction, tax_category, owed_to); unique in them. Table merchant_tax_rates."""
    registered_at: datetime
    """When the merchant was registered."""
    synonyms: list[Synonym] = msgspec.field(default_factory=list)
    """Ordered by (words, means); unique in them. Table merchant_synonyms."""
    bank_transfer_days: WaitDays = BANK_TRANSFER_DAYS
    """How many days the money of a bank transfer is waited for, and the order's stock held."""
    direct_debit_days: WaitDays = DIRECT_DEBIT_DAYS
    """How many days the bank's answer to a direct debit is waited for, and the order's stock held."""
    ships_before_paid: bool = False
    """Whether orders may be fulfilled while their money is waited for."""
