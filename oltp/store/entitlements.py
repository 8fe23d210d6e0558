"""Finding an entitlement by its feature (and customer) instead of by its id."""

from __future__ import annotations

from contracts.events.entitlement import CustomerEntitlementState, MerchantEntitlementState
from oltp.store.rows import find
from oltp.transaction import CommandTransaction

_OF_MERCHANT = "select entitlement_id from oltp.merchant_entitlements where merchant_id = %s and feature = %s"
_OF_CUSTOMER = """
select entitlement_id from oltp.customer_entitlements where merchant_id = %s and customer_id = %s and feature = %s
"""


def merchant_entitlement(tx: CommandTransaction, merchant_id: str, feature: str) -> MerchantEntitlementState | None:
    """Return the merchant's entitlement to a feature, locked, or None when it was never granted."""
    row = tx.query(_OF_MERCHANT, (merchant_id, feature)).fetchone()
    return find(tx, MerchantEntitlementState, merchant_id, row[0]) if row else None


def customer_entitlement(
    tx: CommandTransaction, merchant_id: str, customer_id: str, feature: str
) -> CustomerEntitlementState | None:
    """Return the customer's entitlement to a feature, locked, or None when it was never granted."""
    row = tx.query(_OF_CUSTOMER, (merchant_id, customer_id, feature)).fetchone()
    return find(tx, CustomerEntitlementState, merchant_id, row[0]) if row else None
