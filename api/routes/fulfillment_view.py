"""What a merchant has to ship: from the fulfillment view, with OLTP's word on what waits for money.

Belongs here: this list. Does not belong here: the view (`derived/read_models/fulfillment_view.py`), shipping
(`api/routes/orders.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

import msgspec

from api.calls import Answer, Call
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Route, Work
from api.models import view_headers
from api.positions import HEADER as POSITION
from api.positions import position_of
from api.roles import ADMINS
from contracts.errors import PropagationError, StackError
from derived.read_models.fulfillment_view import NAME, OpenLine, open_orders_in
from oltp.reads.orders import waiting_for_money


class OpenOrdersQuery(PageQuery, frozen=True, kw_only=True):
    """Which page of the list, and of which orders."""

    awaiting_payment: bool | None = None
    """`false` leaves out what waits for money, `true` shows only that. A page may then have fewer orders than `limit`;
    `next` tells whether there are more."""


class LineToShip(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a line that are still to be shipped."""

    order_line_id: str
    line_number: int
    variant_id: str | None
    sku: str
    title: str
    quantity: int
    fulfilled_quantity: int
    cancelled_quantity: int
    open_quantity: int
    location_ids: list[str]
    """Where the order's units are held."""


class OrderToShip(msgspec.Struct, frozen=True, kw_only=True):
    """An order with units that are still to be shipped."""

    order_id: str
    order_number: str
    status: str
    customer_id: str | None
    ordered_at: datetime
    awaiting_payment: bool
    """Whether `fulfill_order` refuses it now, because money is waited for or a bank took some back."""
    currency: str | None
    """Of the amounts; null: no money of it came later."""
    awaited_minor: int
    """What is waited for, also of an order that is shipped before it is paid."""
    awaited_until: datetime | None
    returned_minor: int
    """What banks took back."""
    lines: list[LineToShip]


def list_open_orders(call: Call) -> Answer:
    """Return a page of the orders with units that are still to be shipped, the oldest first.

    They come from the fulfillment view; Tieout-Applied-Cut and Tieout-Data-Age (seconds) say how new it is. Of those
    whose money comes later OLTP says whether they may ship at this moment; without its answer those wait that the view
    knows to wait. With Tieout-Position the list holds the write that returned it; if the view is not there within half
    a second, the answer is 503.
    """
    scope = ("open-orders", call.merchant_id)
    after = position_after(call.services.cursors, scope, call.query.after)
    pod = call.services.pods.home(call.merchant_id)
    _require_position(call)
    with call.services.models.snapshot() as connection:
        found = open_orders_in(
            connection,
            call.merchant_id,
            orders_max=call.query.limit + 1,
            after=(datetime.fromisoformat(after[0]), after[1]) if after else None,
            pod=pod.pod,
        )
    waiting = _waiting(call, [line.order_id for line in found.lines if line.awaiting_payment])
    orders = [_order(list(lines), waiting) for _, lines in groupby(found.lines, key=lambda line: line.order_id)]
    page = page_of(
        call.services.cursors, scope, orders, call.query.limit, lambda one: (one.ordered_at.isoformat(), one.order_id)
    )
    shown = [one for one in page.items if call.query.awaiting_payment in (None, one.awaiting_payment)]
    return Answer(
        value=msgspec.structs.replace(page, items=shown), headers=view_headers(NAME, found.freshness, pod.pod)
    )


def _require_position(call: Call) -> None:
    """Raise PropagationError unless the view holds the write in Tieout-Position, after waiting for it briefly.

    Only the view has such a list, so nobody else can answer.
    """
    if (token := call.headers.get(POSITION.lower())) is None:
        return
    position, pods = position_of(call.services.tokens, token), call.services.pods
    # A write is in the view's part of the pod that it was made in, wherever the merchant lives now.
    if position.pod not in pods.names or not call.services.models.has(NAME, pods.pod(position.pod), position):
        raise PropagationError("The list does not hold this write yet; ask again, or without a position.")


def _waiting(call: Call, order_ids: Sequence[str]) -> frozenset[str]:
    """Return those of these orders that OLTP does not ship now; all of them when it does not answer."""
    if not order_ids:
        return frozenset()
    try:
        with call.services.pods.reading(call.merchant_id) as connection:
            return waiting_for_money(connection, call.merchant_id, set(order_ids))
    except StackError:
        return frozenset(order_ids)


def _order(lines: list[OpenLine], waiting: frozenset[str]) -> OrderToShip:
    first = lines[0]
    return OrderToShip(
        order_id=first.order_id,
        order_number=first.order_number,
        status=first.order_status,
        customer_id=first.customer_id,
        ordered_at=first.ordered_at,
        awaiting_payment=first.order_id in waiting,
        currency=first.currency,
        awaited_minor=first.awaited_minor,
        awaited_until=first.awaited_until,
        returned_minor=first.returned_minor,
        lines=[_line(line) for line in lines],
    )


def _line(line: OpenLine) -> LineToShip:
    return LineToShip(**{name: getattr(line, name) for name in LineToShip.__struct_fields__})


ROUTES: tuple[Route, ...] = (
    Route(
        name="list_open_orders",
        method="GET",
        path="/v1/open-orders",
        summary="What is still to be shipped, page by page",
        handler=list_open_orders,
        roles=ADMINS,
        criticality=Criticality.PAGE,
        work=Work.ADMIN,
        deadline_seconds=5.0,
        answer=Page[OrderToShip],
        query=OpenOrdersQuery,
        takes_position=True,
        raises=(PropagationError,),
    ),
)
