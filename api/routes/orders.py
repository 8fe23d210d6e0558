"""Routes of orders after the checkout: looking at them, shipping, cancelling.

Belongs here: an order's life. Does not belong here: placing one (`api/routes/checkouts.py`), money
(`api/routes/payments.py`).
"""

from __future__ import annotations

from api.calls import Answer, Call
from api.commands import command_route
from api.copy_headers import copy_headers
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Route, Work
from api.roles import ADMINS, SELLERS
from contracts.errors import IllegalTransitionError
from contracts.events.order import OrderState
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.fulfill_order import FulfillOrder
from oltp.reads.aggregates import state_of
from oltp.reads.orders import OrderPage, OrderSummary, order_page, order_summaries

ORDER = {"order_id": "The order's id"}


def get_order(call: Call) -> Answer:
    """Return an order; its ETag is its version, which payments do not change."""
    order_id = call.uuid("order_id")
    with call.services.pods.reading(call.merchant_id) as connection:
        order = state_of(connection, OrderState, call.merchant_id, order_id)
    return Answer(value=order, version=order.version)


def get_order_status(call: Call) -> Answer:
    """Return an order with its payments, refunds and fulfillments, read from OLTP at this moment."""
    order_id = call.uuid("order_id")
    with call.services.pods.reading(call.merchant_id) as connection:
        page = order_page(connection, call.merchant_id, order_id)
    return Answer(value=page, headers=copy_headers("oltp"))


def list_orders(call: Call) -> Answer:
    """Return a page of the merchant's orders, by number."""
    scope = ("orders", call.merchant_id)
    after = position_after(call.services.cursors, scope, call.query.after)
    with call.services.pods.reading(call.merchant_id) as connection:
        found = order_summaries(
            connection, call.merchant_id, after=after[0] if after else None, limit=call.query.limit + 1
        )
    return Answer(
        value=page_of(call.services.cursors, scope, found, call.query.limit, lambda order: (order.order_number,))
    )


ROUTES: tuple[Route, ...] = (
    Route(
        name="list_orders",
        method="GET",
        path="/v1/orders",
        summary="The merchant's orders, page by page",
        handler=list_orders,
        roles=ADMINS,
        criticality=Criticality.PAGE,
        work=Work.ADMIN,
        deadline_seconds=5.0,
        answer=Page[OrderSummary],
        query=PageQuery,
    ),
    Route(
        name="get_order",
        method="GET",
        path="/v1/orders/{order_id}",
        summary="An order as it stands now",
        handler=get_order,
        roles=SELLERS,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=2.0,
        answer=OrderState,
        has_version=True,
        parameters=ORDER,
    ),
    Route(
        name="get_order_status",
        method="GET",
        path="/v1/orders/{order_id}/status",
        summary="An order with all that was done to it",
        handler=get_order_status,
        roles=SELLERS,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=3.0,
        answer=OrderPage,
        parameters=ORDER,
    ),
    command_route("POST", "/v1/orders/{order_id}/fulfillments", FulfillOrder, roles=ADMINS, status=201),
    command_route(
        "POST",
        "/v1/orders/{order_id}/cancellations",
        CancelOrder,
        roles=ADMINS,
        has_version=True,
        raises=(IllegalTransitionError,),
    ),
)
