"""Events of entitlements of merchants and of customers.

There is one aggregate per (merchant, feature) or (merchant, customer, feature). It holds every grant that was ever
given. The present level is always computed from these grants: the best grant that is neither revoked nor expired
decides.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from contracts.events.common import AggregateState, Value
from contracts.limits import CustomerId, Feature, Grantor, Level, Uuid


class MerchantEntitlementEvent(StrEnum):
    """What can happen to a merchant's entitlement."""

    MERCHANT_ENTITLEMENT_GRANTED = "merchant_entitlement_granted"
    MERCHANT_ENTITLEMENT_REVOKED = "merchant_entitlement_revoked"
    MERCHANT_ENTITLEMENT_RESTATED = "merchant_entitlement_restated"
    """The state is published again, because a write had bypassed the outbox."""


class CustomerEntitlementEvent(StrEnum):
    """What can happen to a customer's entitlement."""

    CUSTOMER_ENTITLEMENT_GRANTED = "customer_entitlement_granted"
    CUSTOMER_ENTITLEMENT_REVOKED = "customer_entitlement_revoked"
    CUSTOMER_ENTITLEMENT_RESTATED = "customer_entitlement_restated"
    """The state is published again, because a write had bypassed the outbox."""


class Grant(Value, frozen=True, kw_only=True):
    """The grant of one grantor; it is live until `revoked_at` or `expires_at`."""

    KEY: ClassVar[tuple[str, ...]] = ("grant_id",)

    grant_id: Uuid
    """The grant."""
    grantor: Grantor
    """What gives the right, e.g. ``plan:pro`` or ``order:<order_id>``. A grantor has at most one live grant."""
    level: Level
    """Higher is better. The best live grant decides; among equal levels the one that ends last, then the oldest."""
    granted_at: datetime
    """When it was given."""
    expires_at: datetime | None
    """When it ends; None: never."""
    revoked_at: datetime | None
    """When it was taken back; None: it was not."""


class MerchantEntitlementState(AggregateState, frozen=True, kw_only=True):
    """What a merchant is entitled to, for one feature."""

    AGGREGATE_TYPE: ClassVar[str] = "merchant_entitlement"
    ID_FIELD: ClassVar[str] = "entitlement_id"

    entitlement_id: Uuid
    """The entitlement."""
    feature: Feature
    """What it is about."""
    effective_level: int
    """Level of the best grant that was neither revoked nor expired at this change; 0 when none was. Readers check later
    expiries with their own clock.
    """
    effective_grant_id: str | None
    """The grant whose level that is; None when there was none."""
    grants: list[Grant]
    """Ordered by (granted_at, grant_id). Table merchant_entitlement_grants."""


class CustomerEntitlementState(AggregateState, frozen=True, kw_only=True):
    """What a customer of a merchant is entitled to, for one feature."""

    AGGREGATE_TYPE: ClassVar[str] = "customer_entitlement"
    ID_FIELD: ClassVar[str] = "entitlement_id"

    entitlement_id: Uuid
    """The entitlement."""
    customer_id: CustomerId
    """The customer, by the merchant's own id."""
    feature: Feature
    """What it is about."""
    effective_level: int
    """Level of the best grant that was neither revoked nor expired at this change, as for a merchant; 0 for none."""
    effective_grant_id: str | None
    """The grant whose level that is; None when there was none."""
    grants: list[Grant]
    """Ordered by (granted_at, grant_id). Table customer_entitlement_grants."""
