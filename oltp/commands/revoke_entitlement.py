"""Revoke the grant of one grantor; the grants of others stay."""

from __future__ import annotations

from contracts.errors import NotFoundError
from contracts.events.entitlement import (
    CustomerEntitlementEvent,
    CustomerEntitlementState,
    MerchantEntitlementEvent,
    MerchantEntitlementState,
)
from contracts.limits import StoredName
from oltp.commands.execute import Command
from oltp.commands.grant_entitlement import with_grants
from oltp.domain.entitlements import revoke_grant
from oltp.store.entitlements import customer_entitlement, merchant_entitlement
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class RevokeMerchantEntitlement(Command[MerchantEntitlementState], frozen=True, kw_only=True):
    """Revoke the grant of one grantor for one feature."""

    feature: StoredName
    grantor: StoredName

    def run(self, tx: CommandTransaction) -> MerchantEntitlementState:
        """Return the entitlement that remains; ConflictError when the grantor has granted nothing."""
        before = merchant_entitlement(tx, self.merchant_id, self.feature)
        if before is None:
            raise NotFoundError(f"Merchant {self.merchant_id} was never entitled to {self.feature}.")
        after = with_grants(before, revoke_grant(before.grants, self.grantor, tx.occurred_at), tx.occurred_at)
        return save(tx, before, after, MerchantEntitlementEvent.MERCHANT_ENTITLEMENT_REVOKED)


class RevokeCustomerEntitlement(Command[CustomerEntitlementState], frozen=True, kw_only=True):
    """Revoke the grant of one grantor for one feature to a customer of the merchant."""

    customer_id: StoredName
    feature: StoredName
    grantor: StoredName

    def run(self, tx: CommandTransaction) -> CustomerEntitlementState:
        """Return the entitlement that remains; ConflictError when the grantor has granted nothing."""
        before = customer_entitlement(tx, self.merchant_id, self.customer_id, self.feature)
        if before is None:
            raise NotFoundError(f"Customer {self.customer_id} was never entitled to {self.feature}.")
        after = with_grants(before, revoke_grant(before.grants, self.grantor, tx.occurred_at), tx.occurred_at)
        return save(tx, before, after, CustomerEntitlementEvent.CUSTOMER_ENTITLEMENT_REVOKED)
