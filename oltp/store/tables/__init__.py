"""The declared tables of a pod; importing this package fills `metadata`."""

from oltp.store.tables.carts import cart_orders, carts
from oltp.store.tables.catalog import prices, product_attributes, products, variants
from oltp.store.tables.guards import (
    aggregate_children,
    aggregate_roots,
    allowed_transitions,
    bypasses,
    idempotency_keys,
)
from oltp.store.tables.limits import add_limits
from oltp.store.tables.merchants import (
    customer_entitlement_grants,
    customer_entitlements,
    merchant_entitlement_grants,
    merchant_entitlements,
    merchant_synonyms,
    merchant_tax_rates,
    merchants,
    residents,
)
from oltp.store.tables.metadata import SCHEMA, metadata
from oltp.store.tables.notifications import provider_notifications
from oltp.store.tables.orders import (
    fulfillment_lines,
    fulfillments,
    order_discounts,
    order_line_taxes,
    order_lines,
    order_tax_lines,
    orders,
)
from oltp.store.tables.payments import (
    adjustment_taxes,
    adjustments,
    gift_cards,
    payment_captures,
    payment_disputes,
    payment_movements,
    payments,
    refund_line_taxes,
    refund_lines,
    refunds,
)
from oltp.store.tables.propagation import cuts, epochs, outbox, outbox_floor
from oltp.store.tables.provider_calls import provider_calls
from oltp.store.tables.stock import reservation_lines, reservations, stock_movements, stock_slot_changes, stock_slots

add_limits()

__all__ = [
    "SCHEMA",
    "adjustment_taxes",
    "adjustments",
    "aggregate_children",
    "aggregate_roots",
    "allowed_transitions",
    "bypasses",
    "cart_orders",
    "carts",
    "customer_entitlement_grants",
    "customer_entitlements",
    "cuts",
    "epochs",
    "fulfillment_lines",
    "fulfillments",
    "gift_cards",
    "idempotency_keys",
    "merchant_entitlement_grants",
    "merchant_entitlements",
    "merchant_synonyms",
    "merchant_tax_rates",
    "merchants",
    "metadata",
    "order_discounts",
    "order_line_taxes",
    "order_lines",
    "order_tax_lines",
    "orders",
    "outbox",
    "outbox_floor",
    "payment_captures",
    "payment_disputes",
    "payment_movements",
    "payments",
    "prices",
    "product_attributes",
    "products",
    "provider_calls",
    "provider_notifications",
    "refund_line_taxes",
    "refund_lines",
    "refunds",
    "reservation_lines",
    "reservations",
    "residents",
    "stock_movements",
    "stock_slot_changes",
    "stock_slots",
    "variants",
]
