"""Grant a merchant, or a customer of a merchant, a level of a feature."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

import msgspec

from contracts.events.entitlement import (
    CustomerEntitlementEvent,
    CustomerEntitlementState,
    Grant,
    MerchantEntitlementEvent,
    MerchantEntitlementState,
)
from contracts.limits import At, CustomerId, Feature, Grantor, Level
from oltp.commands.execute import Command
from oltp.domain.entitlements import add_grant, effective_grant
from oltp.store.entitlements import customer_entitlement, merchant_entitlement
from oltp.store.rows import save
from oltp.transaction import CommandTransaction

Entitlement = TypeVar("Entitlement", MerchantEntitlementState, CustomerEntitlementState)


class GrantMerchantEntitlement(Command[MerchantEntitlementState], frozen=True, kw_only=True):
    """Add one grant by one grantor; `level` >= 1. The best grant that is neither revoked nor expired applies."""

    feature: Feature
    grantor: Grantor
    level: Level = 1
    expires_at: At | None = None

    def run(self, tx: CommandTransaction) -> MerchantEntitlementState:
        """Return the entitlement; ConflictError when the grantor has a live grant already."""
        before = merchant_entitlement(tx, self.merchant_id, self.feature)
        start = before or MerchantEntitlementState(
            merchant_id=self.merchant_id,
            version=0,
            entitlement_id=tx.new_id(),
            feature=self.feature,
            effective_level=0,
            effective_grant_id=None,
            grants=[],
        )
        grants = add_grant(start.grants, _grant(tx, self.grantor, self.level, self.expires_at))
        after = with_grants(start, grants, tx.occurred_at)
        return save(tx, before, after, MerchantEntitlementEvent.MERCHANT_ENTITLEMENT_GRANTED)


class GrantCustomerEntitlement(Command[CustomerEntitlementState], frozen=True, kw_only=True):
    """Add one grant by one grantor to a customer of the merchant; `level` >= 1."""

    customer_id: CustomerId
    feature: Feature
    grantor: Grantor
    level: Level = 1
    expires_at: At | None = None

    def run(self, tx: CommandTransaction) -> CustomerEntitlementState:
        """Return the entitlement; ConflictError when the grantor has a live grant already."""
        before = customer_entitlement(tx, self.merchant_id, self.customer_id, self.feature)
        start = before or CustomerEntitlementState(
            merchant_id=self.merchant_id,
            version=0,
            entitlement_id=tx.new_id(),
            customer_id=self.customer_id,
            feature=self.feature,
            effective_level=0,
            effective_grant_id=None,
            grants=[],
        )
        grants = add_grant(start.grants, _grant(tx, self.grantor, self.level, self.expires_at))
        after = with_grants(start, grants, tx.occurred_at)
        return save(tx, before, after, CustomerEntitlementEvent.CUSTOMER_ENTITLEMENT_GRANTED)


def with_grants(before: Entitlement, grants: list[Grant], at: datetime) -> Entitlement:
    """Return the next version with these grants, and the level that follows from them at `at`."""
    best = effective_grant(grants, at)
    return msgspec.structs.replace(
        before,
        version=before.version + 1,
        grants=grants,
        effective_level=best.level if best else 0,
        effective_grant_id=best.grant_id if best else None,
    )


def _grant(tx: CommandTransaction, grantor: str, level: int, expires_at: datetime | None) -> Grant:
    return Grant(
        grant_id=tx.new_id(),
        grantor=grantor,
        level=level,
        granted_at=tx.occurred_at,
        expires_at=expires_at,
        revoked_at=None,
    )
