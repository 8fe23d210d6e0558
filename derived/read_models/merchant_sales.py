"""Merchant sales: what each merchant sold, took in and gave back, by UTC day and currency, as of now.

Captured and refunded count every way to pay, gift cards too, as finance's daily report does.

Belongs here: its rows, and the query that reads them. PostgreSQL adds up the rows (`migrations/0004_sums.sql`); how
they are applied and rebuilt: `derived/keyed/projection.py`. Does not belong here: the books. Closed months and
finance's days (`dbt_project/models/marts/`) say what was booked when. This view says what orders, captures and refunds
add up to today: an order's cancellations count on the day when the order was placed, and a refund that failed after
it was paid counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec

from contracts.clock import Clock, utc_now
from contracts.events.order import OrderState
from contracts.events.payment import MovementKind, PaymentState
from contracts.events.refund import RefundState, RefundStatus
from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection
from derived.keyed.rows import Child, ChildRow, Root, RootRow, row_of
from derived.read_models.answers import Freshness, freshness, select, snapshot
from derived.read_models.store import build_read_model

NAME = "merchant_sales"
SUMS = ("merchant_sales_days",)


class SalesOrder(RootRow, frozen=True, kw_only=True):
    """An order's amounts on its day."""

    order_id: str
    day: str
    """The UTC day on which it was placed, YYYY-MM-DD."""
    currency: str
    ordered_minor: int
    """The order's total when it was placed, tax included."""
    cancelled_minor: int
    """The part of it that is cancelled by now."""


class SalesPayment(RootRow, frozen=True, kw_only=True):
    """A payment of which something was captured; its captures are child rows."""

    payment_id: str
    currency: str


class SalesCapture(ChildRow, frozen=True, kw_only=True):
    """A capture's amount on its day; or, below 0 and with the movement's id, what a bank took back on that day."""

    merchant_id: str
    payment_id: str
    payment_capture_id: str
    day: str
    currency: str
    captured_minor: int


class SalesRefund(RootRow, frozen=True, kw_only=True):
    """A completed refund's amount on its day."""

    refund_id: str
    day: str
    currency: str
    refunded_minor: int


class SalesDay(msgspec.Struct, frozen=True, kw_only=True):
    """A merchant's day in one currency; the sums are integers of any size."""

    day: str
    currency: str
    order_count: int
    ordered_minor: int
    cancelled_minor: int
    captured_minor: int
    refunded_minor: int


@dataclass(frozen=True, kw_only=True)
class Sales:
    """A merchant's days, newest first."""

    merchant_id: str
    days: list[SalesDay]
    freshness: Freshness


DAYS = """
    select day, currency, order_count, ordered_minor, cancelled_minor, captured_minor, refunded_minor
    from read_models.merchant_sales_days
    where merchant_id = %s and day >= %s and day <= %s
    order by day desc, currency"""
ORDER = "select * from read_models.sales_orders where merchant_id = %s and order_id = %s"
PODS = "select pod from read_models.sales_orders where merchant_id = %s limit 1"


def sales_of(dsn: str, merchant_id: str, first: date, last: date, *, clock: Clock = utc_now) -> Sales:
    """Return a merchant's sales from `first` through `last` and their age, all from one snapshot."""
    with snapshot(dsn) as connection:
        days = select(connection, _day, DAYS, [merchant_id, first.isoformat(), last.isoformat()])
        pods = {pod for (pod,) in connection.execute(PODS, [merchant_id])}
        age = freshness(connection, NAME, merchant_id, pods, clock)
    return Sales(merchant_id=merchant_id, days=days, freshness=age)


def order_in_sales(
    dsn: str, merchant_id: str, order_id: str, *, clock: Clock = utc_now
) -> tuple[SalesOrder | None, Freshness]:
    """Return an order's row (None if the view does not have it) and its age, all from one snapshot."""
    with snapshot(dsn) as connection:
        rows = select(connection, SalesOrder, ORDER, [merchant_id, order_id])
        age = freshness(connection, NAME, merchant_id, {row.pod for row in rows}, clock)
    return (rows[0] if rows else None), age


def build(settings: Settings) -> KeyedProjection:
    """Return the projection of these settings; connects at first use."""
    return build_read_model(settings, name=NAME, roots=ROOTS, sums=SUMS)


def _day(*, day: str, currency: str, **sums: Decimal) -> SalesDay:
    return SalesDay(day=day, currency=currency, **{name: int(value) for name, value in sums.items()})


def _utc_day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def _order(state: OrderState, pod: str, epoch: str) -> SalesOrder:
    return row_of(SalesOrder, state, pod, epoch, day=_utc_day(state.placed_at), ordered_minor=state.total_minor)


def _payment(state: PaymentState, pod: str, epoch: str) -> SalesPayment | None:
    if not state.captures:
        return None
    return row_of(SalesPayment, state, pod, epoch)


def _captures(state: PaymentState) -> Sequence[SalesCapture]:
    return [
        SalesCapture(
            merchant_id=state.merchant_id,
            payment_id=state.payment_id,
            payment_capture_id=capture.payment_capture_id,
            day=_utc_day(capture.captured_at),
            currency=state.currency,
            captured_minor=capture.amount_minor,
        )
        for capture in state.captures
    ] + [
        SalesCapture(
            merchant_id=state.merchant_id,
            payment_id=state.payment_id,
            payment_capture_id=movement.payment_movement_id,
            day=_utc_day(movement.moved_at),
            currency=state.currency,
            captured_minor=-movement.amount_minor,
        )
        for movement in state.movements
        if movement.kind is MovementKind.RETURNED
    ]


def _refund(state: RefundState, pod: str, epoch: str) -> SalesRefund | None:
    if state.status != RefundStatus.COMPLETED or state.completed_at is None:
        return None
    return row_of(SalesRefund, state, pod, epoch, day=_utc_day(state.completed_at), refunded_minor=state.amount_minor)


ROOTS = (
    Root(table="sales_orders", state_type=OrderState, row_type=SalesOrder, row=_order),
    Root(
        table="sales_payments",
        state_type=PaymentState,
        row_type=SalesPayment,
        row=_payment,
        child=Child(table="sales_captures", row_type=SalesCapture, rows=_captures),
    ),
    Root(table="sales_refunds", state_type=RefundState, row_type=SalesRefund, row=_refund),
)
