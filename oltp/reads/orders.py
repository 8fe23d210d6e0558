"""Orders as staff and customers look at them: lists, and an order with all that was done to it.

Belongs here: these questions. Does not belong here: a customer's page from its copy
(`derived/read_models/`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import kwargs_row

from contracts.events.fulfillment import FulfillmentState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState
from oltp.domain.pending_payments import LaterMoney, waits_for_money
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

_LATER_MONEY = """
select
    orders.order_id::text,
    orders.total_minor - orders.cancelled_minor,
    coalesce(bool_or(payments.expires_at is not null), false),
    coalesce(sum(payments.captured_minor - payments.returned_minor), 0)::bigint,
    coalesce(sum(payments.returned_minor), 0)::bigint,
    merchants.ships_before_paid
from oltp.orders
inner join oltp.merchants on orders.merchant_id = merchants.merchant_id
left join oltp.payments on orders.order_id = payments.order_id
where orders.merchant_id = %s and orders.order_id = any(%s::uuid [])
group by orders.order_id, merchants.merchant_id
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


def waiting_for_money(
    connection: psycopg.Connection[Any], merchant_id: str, order_ids: Collection[str]
) -> frozenset[str]:
    """Return those of these orders that are not fulfilled before money is there, as `FulfillOrder` decides it."""
    rows = connection.execute(_LATER_MONEY, (merchant_id, list(order_ids))).fetchall()
    return frozenset(
        order_id
        for order_id, owed_minor, is_awaited, captured_minor, returned_minor, ships_before_paid in rows
        if waits_for_money(
            owed_minor,
            LaterMoney(
                is_awaited=is_awaited,
                captured_minor=captured_minor,
                returned_minor=returned_minor,
                ships_before_paid=ships_before_paid,
            ),
        )
    )
