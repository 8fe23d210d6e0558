"""Orders as staff and customers look at them: lists, and an order with all that was done to it.

Belongs here: these questions. Does not belong here: a customer's page from its copy
(`derived/read_models/`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import kwargs_row

from contracts.events.fulfillment import FulfillmentState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState
from oltp.reads.aggregates import state_of, states_by

_LIST = """
select
    order_id::text as order_id,
    order_number,
    version,
    customer_id,
    status,
    currency,
    total_minor,
    cancelled_minor,
    placed_at
from oltp.orders
where merchant_id = %(merchant_id)s and order_number > %(after)s
order by order_number
limit %(limit)s
"""


class OrderSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An order in a list."""

    order_id: str
    order_number: str
    version: int
    customer_id: str | None
    status: str
    currency: str
    total_minor: int
    cancelled_minor: int
    placed_at: datetime


class OrderPage(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its payments, refunds and fulfillments, each by id."""

    order: OrderState
    payments: list[PaymentState]
    refunds: list[RefundState]
    fulfillments: list[FulfillmentState]


def order_summaries(
    connection: psycopg.Connection[Any], merchant_id: str, *, after: str | None, limit: int
) -> list[OrderSummary]:
    """Return at most `limit` orders with a higher number than `after`, by number."""
    with connection.cursor(row_factory=kwargs_row(OrderSummary)) as cursor:
        return cursor.execute(_LIST, {"merchant_id": merchant_id, "after": after or "", "limit": limit}).fetchall()


def order_page(connection: psycopg.Connection[Any], merchant_id: str, order_id: str) -> OrderPage:
    """Return an order with all that was done to it; NotFoundError when the merchant has no such order."""
    return OrderPage(
        order=state_of(connection, OrderState, merchant_id, order_id),
        payments=states_by(connection, PaymentState, merchant_id, "order_id", order_id),
        refunds=states_by(connection, RefundState, merchant_id, "order_id", order_id),
        fulfillments=states_by(connection, FulfillmentState, merchant_id, "order_id", order_id),
    )
