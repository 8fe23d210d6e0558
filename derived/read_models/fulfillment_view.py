"""The fulfillment view: what a merchant has to ship, oldest order first, and which of it waits for money.

Belongs here: open order lines of goods, the reservations that hold their units at a location, and the payments of their
orders whose money comes later. How rows are applied and rebuilt: `derived/keyed/projection.py`. Does not belong here:
deciding whether something may ship (the command re-reads OLTP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from contracts.clock import Clock, utc_now
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.events.order import LineKind, OrderLine, OrderState
from contracts.events.payment import PaymentState
from contracts.events.stock import ReservationState
from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection
from derived.keyed.rows import Child, ChildRow, Root, RootRow
from derived.read_models.answers import Connection, Freshness, freshness, select, snapshot
from derived.read_models.store import build_read_model

NAME = "fulfillment_view"


class FulfillmentOrder(RootRow, frozen=True, kw_only=True):
    """An order as the warehouse sees it."""

    merchant_id: str
    order_id: str
    pod: str
    epoch: str
    version: int
    customer_id: str | None
    order_number: str
    status: str
    reservation_id: str | None
    open_quantity: int
    """Units of goods that are still to be shipped."""
    ordered_at: datetime
    directory_epoch: int = FIRST_DIRECTORY_EPOCH


class FulfillmentLine(ChildRow, frozen=True, kw_only=True):
    """A line of goods with units that are still to be shipped."""

    merchant_id: str
    order_id: str
    order_line_id: str
    line_number: int
    variant_id: str | None
    sku: str
    title: str
    quantity: int
    fulfilled_quantity: int
    cancelled_quantity: int
    open_quantity: int
    """quantity - fulfilled_quantity - cancelled_quantity - units withdrawn; > 0. Units of a requested refund stay
    open until the refund completes; until then they may not be shipped."""


class FulfillmentReservation(RootRow, frozen=True, kw_only=True):
    """A reservation, with the fields that shipping needs."""

    merchant_id: str
    reservation_id: str
    pod: str
    epoch: str
    version: int
    order_id: str | None
    status: str
    directory_epoch: int = FIRST_DIRECTORY_EPOCH


class FulfillmentReservationLine(ChildRow, frozen=True, kw_only=True):
    """Units that a reservation still holds."""

    merchant_id: str
    reservation_id: str
    reservation_line_id: str
    variant_id: str
    location_id: str
    held_quantity: int
    """quantity - consumed_quantity - released_quantity, > 0."""


class FulfillmentPayment(RootRow, frozen=True, kw_only=True):
    """A bank transfer or a direct debit: what of an order's money is waited for, or was taken back."""

    merchant_id: str
    payment_id: str
    pod: str
    epoch: str
    version: int
    order_id: str
    currency: str
    awaited_minor: int
    """What is still waited for."""
    expires_at: datetime | None
    """How long that is waited for; None: nothing is."""
    returned_minor: int
    """What a bank took back."""
    directory_epoch: int = FIRST_DIRECTORY_EPOCH


class OpenLine(msgspec.Struct, frozen=True, kw_only=True):
    """An open line with its order."""

    pod: str
    merchant_id: str
    order_id: str
    order_number: str
    order_status: str
    customer_id: str | None
    ordered_at: datetime
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
    """Locations where the order's reservation holds the units; empty until the reservation's event is applied."""
    awaiting_payment: bool
    """Whether money of the order is waited for, or a bank took some back. The command says whether it may ship all the
    same: the merchant ships before it is paid, or it was paid in another way since."""
    currency: str | None
    """Of the amounts; None: no money of it came later."""
    awaited_minor: int
    """What is waited for."""
    awaited_until: datetime | None
    returned_minor: int
    """What banks took back."""


@dataclass(frozen=True, kw_only=True)
class OpenFulfillments:
    """A merchant's open lines, ordered by (ordered_at, order_id, line_number)."""

    merchant_id: str
    lines: list[OpenLine]
    freshness: Freshness


OPEN_LINES = """
    with chosen as (
        select * from read_models.fulfillment_orders
        where merchant_id = %(merchant_id)s and open_quantity > 0
          and (%(after_at)s::timestamptz is null or (ordered_at, order_id) > (%(after_at)s, %(after_id)s::text))
        order by ordered_at, order_id
        limit %(orders_max)s
    )
    select
        orders.pod, orders.merchant_id, orders.order_id, orders.order_number, orders.status as order_status,
        orders.customer_id, orders.ordered_at, lines.order_line_id, lines.line_number, lines.variant_id, lines.sku,
        lines.title, lines.quantity, lines.fulfilled_quantity, lines.cancelled_quantity, lines.open_quantity,
        array(
            select distinct held.location_id from read_models.fulfillment_reservation_lines as held
            where held.merchant_id = orders.merchant_id and held.reservation_id = orders.reservation_id
              and held.variant_id = lines.variant_id
            order by held.location_id
        ) as location_ids,
        later.awaited_until is not null or later.returned_minor > 0 as awaiting_payment, later.currency,
        later.awaited_minor, later.awaited_until, later.returned_minor
    from chosen as orders
    inner join read_models.fulfillment_lines as lines
        on orders.merchant_id = lines.merchant_id and orders.order_id = lines.order_id
    cross join lateral (
        select min(currency) as currency, max(expires_at) as awaited_until,
            coalesce(sum(awaited_minor), 0)::bigint as awaited_minor,
            coalesce(sum(returned_minor), 0)::bigint as returned_minor
        from read_models.fulfillment_payments as paid
        where paid.merchant_id = orders.merchant_id and paid.order_id = orders.order_id
    ) as later
    order by orders.ordered_at, orders.order_id, lines.line_number
    limit %(lines_max)s"""


def open_fulfillments(
    dsn: str, merchant_id: str, *, lines_max: int = 1_000, clock: Clock = utc_now
) -> OpenFulfillments:
    """Return the oldest `lines_max` open lines of a merchant and their age, all from one snapshot."""
    with snapshot(dsn) as connection:
        # Each open order has an open line.
        return _open(connection, merchant_id, lines_max, None, lines_max=lines_max, pod=None, clock=clock)


def open_orders_in(
    connection: Connection,
    merchant_id: str,
    *,
    orders_max: int,
    after: tuple[datetime, str] | None,
    pod: str,
    clock: Clock = utc_now,
) -> OpenFulfillments:
    """Return all open lines of the oldest `orders_max` orders after (ordered_at, order_id), from an open snapshot.

    `pod`: where the merchant lives, whose age is stated in any case.
    """
    return _open(connection, merchant_id, orders_max, after, lines_max=None, pod=pod, clock=clock)


def _open(
    connection: Connection,
    merchant_id: str,
    orders_max: int,
    after: tuple[datetime, str] | None,
    *,
    lines_max: int | None,
    pod: str | None,
    clock: Clock,
) -> OpenFulfillments:
    after_at, after_id = after or (None, None)
    limits = {"orders_max": orders_max, "lines_max": lines_max}
    values = {"merchant_id": merchant_id, "after_at": after_at, "after_id": after_id, **limits}
    lines = select(connection, OpenLine, OPEN_LINES, values)
    pods = {line.pod for line in lines} | ({pod} if pod is not None else set())
    age = freshness(connection, NAME, merchant_id, pods, clock)
    return OpenFulfillments(merchant_id=merchant_id, lines=lines, freshness=age)


def build(settings: Settings) -> KeyedProjection:
    """Return the projection of these settings; connects at first use."""
    return build_read_model(settings, name=NAME, roots=ROOTS)


def _open_quantity(line: OrderLine) -> int:
    if line.kind != LineKind.GOODS:
        return 0
    return line.quantity - line.fulfilled_quantity - line.cancelled_quantity - line.withdrawn_quantity


def _order(state: OrderState, pod: str, epoch: str) -> FulfillmentOrder:
    return FulfillmentOrder(
        merchant_id=state.merchant_id,
        order_id=state.order_id,
        pod=pod,
        epoch=epoch,
        version=state.version,
        customer_id=state.customer_id,
        order_number=state.order_number,
        status=state.status,
        reservation_id=state.reservation_id,
        open_quantity=sum(map(_open_quantity, state.lines)),
        ordered_at=state.placed_at,
    )


def _lines(state: OrderState) -> Sequence[FulfillmentLine]:
    return [
        FulfillmentLine(
            merchant_id=state.merchant_id,
            order_id=state.order_id,
            order_line_id=line.order_line_id,
            line_number=line.line_number,
            variant_id=line.variant_id,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            fulfilled_quantity=line.fulfilled_quantity,
            cancelled_quantity=line.cancelled_quantity,
            open_quantity=_open_quantity(line),
        )
        for line in state.lines
        if _open_quantity(line) > 0
    ]


def _reservation(state: ReservationState, pod: str, epoch: str) -> FulfillmentReservation:
    return FulfillmentReservation(
        merchant_id=state.merchant_id,
        reservation_id=state.reservation_id,
        pod=pod,
        epoch=epoch,
        version=state.version,
        order_id=state.order_id,
        status=state.status,
    )


def _held_lines(state: ReservationState) -> Sequence[FulfillmentReservationLine]:
    rows = []
    for line in state.lines:
        held = line.quantity - line.consumed_quantity - line.released_quantity
        if held > 0:
            rows.append(
                FulfillmentReservationLine(
                    merchant_id=state.merchant_id,
                    reservation_id=state.reservation_id,
                    reservation_line_id=line.reservation_line_id,
                    variant_id=line.variant_id,
                    location_id=line.location_id,
                    held_quantity=held,
                )
            )
    return rows


def _payment(state: PaymentState, pod: str, epoch: str) -> FulfillmentPayment | None:
    # A payment keeps its row when its money is there: a row that went and came back would lose the guard by version.
    if state.method is None:
        return None
    is_awaited = state.expires_at is not None
    return FulfillmentPayment(
        merchant_id=state.merchant_id,
        payment_id=state.payment_id,
        pod=pod,
        epoch=epoch,
        version=state.version,
        order_id=state.order_id,
        currency=state.currency,
        awaited_minor=state.authorized_minor - state.released_minor - state.captured_minor if is_awaited else 0,
        expires_at=state.expires_at,
        returned_minor=state.returned_minor,
    )


ROOTS = (
    Root(
        table="fulfillment_orders",
        state_type=OrderState,
        row_type=FulfillmentOrder,
        row=_order,
        child=Child(table="fulfillment_lines", row_type=FulfillmentLine, rows=_lines),
    ),
    Root(
        table="fulfillment_reservations",
        state_type=ReservationState,
        row_type=FulfillmentReservation,
        row=_reservation,
        child=Child(table="fulfillment_reservation_lines", row_type=FulfillmentReservationLine, rows=_held_lines),
    ),
    Root(
        table="fulfillment_payments",
        state_type=PaymentState,
        row_type=FulfillmentPayment,
        row=_payment,
        needs=("method",),
    ),
)
