"""Every fact there is, and which copies hold it.

Belongs here: the facts. Does not belong here: the copies (`contracts/ownership.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that must never be ambiguous; its owner is always the OLTP database of the merchant's pod."""

    name: str
    description: str
    aggregates: tuple[str, ...]
    """Aggregate types whose events carry it."""
    copies: tuple[str, ...]
    """Names of the copies that hold it. The log is not listed, because it carries every fact."""


FACTS = (
    Fact(
        name="order state",
        description="What was ordered at which price, and how much of it is cancelled or fulfilled.",
        aggregates=("order", "fulfillment"),
        copies=("lake", "warehouse", "account_view", "fulfillment_view", "merchant_sales"),
    ),
    Fact(
        name="payment state",
        description="What is authorized, waited for, captured, voided, given back, or taken back by banks.",
        aggregates=("payment",),
        copies=("lake", "warehouse", "account_view", "fulfillment_view", "merchant_sales"),
    ),
    Fact(
        name="refund state",
        description="Which refunds are requested, completed or failed, per order line.",
        aggregates=("refund",),
        copies=("lake", "warehouse", "account_view", "merchant_sales"),
    ),
    Fact(
        name="inventory",
        description="Units on hand (the sum of the movements).",
        aggregates=("stock_movement",),
        copies=("lake", "warehouse"),
    ),
    Fact(
        name="inventory reservation",
        description="Units that are promised to an order or a checkout.",
        aggregates=("reservation",),
        copies=("lake", "warehouse", "fulfillment_view"),
    ),
    Fact(
        name="merchant configuration",
        description="Currency, tax rates, shipping fee, whether it may sell, and what its shoppers mean by words.",
        aggregates=("merchant",),
        copies=("lake", "warehouse", "search"),
    ),
    Fact(
        name="merchant entitlement",
        description="What a merchant may use: the best surviving grant per feature.",
        aggregates=("merchant_entitlement",),
        copies=("lake", "warehouse"),
    ),
    Fact(
        name="customer entitlement",
        description="What a customer may use: the best surviving grant per feature.",
        aggregates=("customer_entitlement",),
        copies=("lake", "warehouse", "account_view"),
    ),
    Fact(
        name="tax basis",
        description="Jurisdiction, rate, taxable amount and tax of every order line, as they were when it was placed.",
        aggregates=("order", "refund"),
        copies=("lake", "warehouse"),
    ),
    Fact(
        name="catalog",
        description="Products with what is said of them (brand, description, attributes), variants and their prices.",
        aggregates=("product",),
        copies=("lake", "warehouse", "search"),
    ),
    Fact(
        name="adjustment",
        description="Money in a merchant's books that belongs to no order.",
        aggregates=("adjustment",),
        copies=("lake", "warehouse"),
    ),
    Fact(
        name="gift card balance",
        description="What was issued, spent, given back onto and expired of every gift card, and what is left on it.",
        aggregates=("gift_card",),
        copies=("lake", "warehouse"),
    ),
)
"""Every fact there is. A fact belongs to the pod in which its merchant lives."""
