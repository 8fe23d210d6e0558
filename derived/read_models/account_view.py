"""The account view: a customer's orders, payments, refunds and entitlements at one merchant.

Belongs here: its rows, and the query that reads them. How rows are applied and rebuilt: `derived/keyed/projection.py`.
Does not belong here: guests' orders (nobody may look them up by customer), decisions about money (those re-read OLTP).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from contracts.clock import Clock, utc_now
from contracts.events.entitlement import CustomerEntitlementState, Grant
from contracts.events.order import LineKind, OrderState
from contracts.events.payment import PaymentState
from contracts.events.refund import RefundState
from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection
from derived.keyed.rows import Root, RootRow, row_of
from derived.read_models.answers import Connection, Freshness, freshness, select, snapshot
from derived.read_models.store import build_read_model

NAME = "account_view"


class AccountOrder(RootRow, frozen=True, kw_only=True):
    """An order as its customer sees it, with the amounts of the event."""

    order_id: str
    customer_id: str
    order_number: str
    status: str
    currency: str
    item_quantity: int
    """Units ordered, without shipping lines."""
    lines_minor: int
    discount_minor: int
    shipping_minor: int
    tax_minor: int
    total_minor: int
    cancelled_minor: int
    cancelled_tax_minor: int
    placed_at: datetime


class AccountPayment(RootRow, frozen=True, kw_only=True):
    """A payment as its customer sees it."""

    payment_id: str
    customer_id: str
    order_id: str
    status: str
    currency: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    authorized_at: datetime
    method: str | None = None
    """How its money comes later; None: it does not."""
    pending_minor: int = 0
    """What is still waited for."""
    expires_at: datetime | None = None
    """How long that is waited for."""
    returned_minor: int = 0
    """What the bank took back."""


class AccountRefund(RootRow, frozen=True, kw_only=True):
    """A refund as its customer sees it."""

    refund_id: str
    customer_id: str
    order_id: str
    payment_id: str
    status: str
    currency: str
    amount_minor: int
    tax_minor: int
    reason: str
    requested_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None = None
    """When it failed; with `completed_at`, the money came back after it had been paid."""


class AccountEntitlement(RootRow, frozen=True, kw_only=True):
    """A customer's entitlement for one feature."""

    entitlement_id: str
    customer_id: str
    feature: str
    effective_level: int
    """Level of the best grant that is not revoked, whether or not it has expired."""
    grants: str
    """The grants that are not revoked, as JSON, ordered by (granted_at, grant_id)."""

    def level_at(self, moment: datetime) -> int:
        """Return the highest level of the grants that have not expired at `moment`; 0 if there is none."""
        grants = msgspec.json.decode(self.grants, type=list[Grant])
        return max(
            (grant.level for grant in grants if grant.expires_at is None or grant.expires_at > moment), default=0
        )


@dataclass(frozen=True, kw_only=True)
class Account:
    """A customer's page at one merchant, newest first."""

    merchant_id: str
    customer_id: str
    orders: list[AccountOrder]
    payments: list[AccountPayment]
    refunds: list[AccountRefund]
    entitlements: list[AccountEntitlement]
    levels: dict[str, int]
    """Level by feature, without the grants that have expired at the time of the query."""
    freshness: Freshness


def account_of(dsn: str, merchant_id: str, customer_id: str, *, clock: Clock = utc_now) -> Account:
    """Return a customer's rows in the view and their age, all from one snapshot."""
    with snapshot(dsn) as connection:
        return account_in(connection, merchant_id, customer_id, clock=clock)


def account_in(
    connection: Connection, merchant_id: str, customer_id: str, *, pod: str | None = None, clock: Clock = utc_now
) -> Account:
    """Return the same from an open snapshot; `pod`: where the merchant lives, whose age is stated in any case."""
    key: list[object] = [merchant_id, customer_id]
    orders = select(connection, AccountOrder, _query("account_orders", "placed_at desc, order_id"), key)
    payments = select(connection, AccountPayment, _query("account_payments", "authorized_at desc, payment_id"), key)
    refunds = select(connection, AccountRefund, _query("account_refunds", "requested_at desc, refund_id"), key)
    entitlements = select(connection, AccountEntitlement, _query("account_entitlements", "feature"), key)
    pods = {row.pod for rows in (orders, payments, refunds, entitlements) for row in rows}
    pods |= {pod} if pod is not None else set()
    age = freshness(connection, NAME, merchant_id, pods, clock)
    now = clock()
    return Account(
        merchant_id=merchant_id,
        customer_id=customer_id,
        orders=orders,
        payments=payments,
        refunds=refunds,
        entitlements=entitlements,
        levels={entitlement.feature: entitlement.level_at(now) for entitlement in entitlements},
        freshness=age,
    )


def build(settings: Settings) -> KeyedProjection:
    """Return the projection of these settings; connects at first use."""
    return build_read_model(settings, name=NAME, roots=ROOTS)


def _query(table: str, order: str) -> str:
    return f"select * from read_models.{table} where merchant_id = %s and customer_id = %s order by {order}"


def _order(state: OrderState, pod: str, epoch: str) -> AccountOrder | None:
    if state.customer_id is None:
        return None
    return row_of(
        AccountOrder,
        state,
        pod,
        epoch,
        item_quantity=sum(line.quantity for line in state.lines if line.kind != LineKind.SHIPPING),
    )


def _payment(state: PaymentState, pod: str, epoch: str) -> AccountPayment | None:
    if state.customer_id is None:
        return None
    return row_of(AccountPayment, state, pod, epoch, pending_minor=_pending_minor(state))


def _pending_minor(state: PaymentState) -> int:
    waits = state.expires_at is not None
    return state.authorized_minor - state.released_minor - state.captured_minor if waits else 0


def _refund(state: RefundState, pod: str, epoch: str) -> AccountRefund | None:
    if state.customer_id is None:
        return None
    return row_of(AccountRefund, state, pod, epoch)


def _entitlement(state: CustomerEntitlementState, pod: str, epoch: str) -> AccountEntitlement:
    surviving = [grant for grant in state.grants if grant.revoked_at is None]
    return row_of(AccountEntitlement, state, pod, epoch, grants=msgspec.json.encode(surviving).decode())


ROOTS = (
    Root(table="account_orders", state_type=OrderState, row_type=AccountOrder, row=_order),
    Root(table="account_payments", state_type=PaymentState, row_type=AccountPayment, row=_payment),
    Root(table="account_refunds", state_type=RefundState, row_type=AccountRefund, row=_refund),
    Root(
        table="account_entitlements",
        state_type=CustomerEntitlementState,
        row_type=AccountEntitlement,
        row=_entitlement,
    ),
)
