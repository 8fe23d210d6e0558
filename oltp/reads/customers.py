"""What OLTP knows of one customer of a merchant, for a page whose copy is behind.

Belongs here: finding a customer's aggregates. Does not belong here: the page (`api/routes/`).

Only orders and entitlements have an index by customer, so payments and refunds are found by the orders.
"""

from __future__ import annotations

from typing import Any

import psycopg

from contracts.events.entitlement import CustomerEntitlementState
from contracts.events.order import OrderState
from oltp.reads.aggregates import State, states_by

_ORDERS = "select order_id::text from oltp.orders where merchant_id = %s and customer_id = %s"


def states_of_customer(
    connection: psycopg.Connection[Any], state_type: type[State], merchant_id: str, customer_id: str
) -> list[State]:
    """Return the customer's aggregates of one type."""
    if state_type in (OrderState, CustomerEntitlementState):
        return states_by(connection, state_type, merchant_id, "customer_id", customer_id)
    orders = connection.execute(_ORDERS, (merchant_id, customer_id)).fetchall()
    return [
        state
        for (order_id,) in orders
        for state in states_by(connection, state_type, merchant_id, "order_id", order_id)
    ]
