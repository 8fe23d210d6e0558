"""The contract: who owns each fact, which copies of it exist, how far each may lag, and how it is rebuilt.

Belongs here: the declaration, as values. `docs/contract.md`, Dagster's freshness policies and the allowed lag of the
comparisons are generated from it. Does not belong here: how a copy is built (`derived/`, `dbt_project/`) or compared
(`reconcile/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.errors import InputError


class Lateness(StrEnum):
    """What the contract says of a lag."""

    FRESH = "fresh"
    LATE = "late"
    """Behind the target, and nothing to worry about."""
    OVERDUE = "overdue"
    """Behind what may be called late: people are told."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A store that holds copies of facts."""

    name: str
    """The name under which `tieout status`, Dagster and the comparisons know it."""
    store: str
    built_by: str
    """Where its code is."""
    freshness_seconds: int
    """The target: the oldest event it has not applied is younger than this."""
    late_seconds_max: int
    """Up to this lag a difference is late, not wrong; beyond it people are told."""
    rebuilt_by: str
    when_down: str
    """What users still get, and what they do not."""
    runbook: str
    """File below docs/."""

    def lateness(self, lag_seconds: float) -> Lateness:
        """Return what a lag means: the age of the oldest event that the copy does not have."""
        if lag_seconds <= self.freshness_seconds:
            return Lateness.FRESH
        return Lateness.LATE if lag_seconds <= self.late_seconds_max else Lateness.OVERDUE


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that must never be ambiguous; its owner is always the OLTP database of the merchant's pod."""

    name: str
    description: str
    aggregates: tuple[str, ...]
    """Aggregate types whose events carry it."""
    copies: tuple[str, ...]
    """Names of the copies that hold it, the log apart: that one carries everything."""


LOG = Copy(
    name="log",
    store="Valkey streams",
    built_by="streams/relay.py",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="the relay publishes the cuts again from the outbox, into a new generation of the streams",
    when_down="Commands go on: events wait in the outbox. Copies stay as they are and say how old they are.",
    runbook="runbooks/log.md",
)
LAKE = Copy(
    name="lake",
    store="DuckLake (Parquet, catalog in PostgreSQL)",
    built_by="derived/lake.py",
    freshness_seconds=10,
    late_seconds_max=120,
    rebuilt_by="replay of the log from the lake's position; the whole of it, from the outbox, while it is unpruned",
    when_down="Selling goes on. Reports stay as of their last build; nothing is pruned and the log is not trimmed.",
    runbook="runbooks/lake.md",
)
WAREHOUSE = Copy(
    name="warehouse",
    store="dbt models on DuckLake",
    built_by="dbt_project/",
    freshness_seconds=900,
    late_seconds_max=3600,
    rebuilt_by="dbt build, incremental by cut; `tieout rebuild warehouse` computes it again from the lake's events",
    when_down="Selling and serving go on. Finance reports stay at the cuts of the last build and say so.",
    runbook="runbooks/warehouse.md",
)
ACCOUNT_VIEW = Copy(
    name="account_view",
    store="PostgreSQL database read_models",
    built_by="derived/read_models/account.py",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the view's position",
    when_down="Customers cannot see their history; orders, payments and refunds go on against OLTP.",
    runbook="runbooks/read_models.md",
)
FULFILLMENT_VIEW = Copy(
    name="fulfillment_view",
    store="PostgreSQL database read_models",
    built_by="derived/read_models/fulfillment.py",
    freshness_seconds=5,
    late_seconds_max=60,
    rebuilt_by="rebuild(keys) from the lake as of the view's position",
    when_down="The list of what to ship is not served; a fulfillment itself is checked against OLTP.",
    runbook="runbooks/read_models.md",
)

SWEEP_SECONDS_MAX = 6 * 3600
"""Within this time every key of every pair is compared at least once, whether or not anything changed; beyond it a
check fails."""

COPIES = (LOG, LAKE, WAREHOUSE, ACCOUNT_VIEW, FULFILLMENT_VIEW)
"""Every copy there is, in the order in which facts reach them."""

FACTS = (
    Fact(
        name="order state",
        description="What was ordered at which price, and how much of it is cancelled or fulfilled.",
        aggregates=("order", "fulfillment"),
        copies=("lake", "warehouse", "account_view", "fulfillment_view"),
    ),
    Fact(
        name="payment state",
        description="What is authorized, captured and voided, and what was given back.",
        aggregates=("payment",),
        copies=("lake", "warehouse", "account_view"),
    ),
    Fact(
        name="refund state",
        description="Which refunds are requested, completed or failed, per order line.",
        aggregates=("refund",),
        copies=("lake", "warehouse", "account_view"),
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
        description="Currency, tax rates, shipping fee, whether it may sell.",
        aggregates=("merchant",),
        copies=("lake", "warehouse"),
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
        description="Products, variants and their prices.",
        aggregates=("product",),
        copies=("lake", "warehouse"),
    ),
    Fact(
        name="adjustment",
        description="Money in a merchant's books that belongs to no order.",
        aggregates=("adjustment",),
        copies=("lake", "warehouse"),
    ),
)
"""Every fact there is. A fact belongs to the pod in which its merchant lives."""


def copy_named(name: str) -> Copy:
    """Return the copy of that name; InputError lists the known ones."""
    for copy in COPIES:
        if copy.name == name:
            return copy
    raise InputError(f"There is no copy named {name!r}; known copies: {', '.join(copy.name for copy in COPIES)}.")
