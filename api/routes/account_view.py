"""The page of a customer: from the account view, or from OLTP where the view does not hold the caller's own write yet.

Belongs here: choosing between the two, and saying which it was. Does not belong here: the view
(`derived/read_models/account_view.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from api.calls import Answer, Call
from api.copy_headers import copy_headers
from api.declaring import Criticality, Route, Work
from api.models import view_headers
from api.pods import connection_of
from api.positions import HEADER as POSITION
from api.positions import position_of
from api.roles import SELLERS
from contracts.clock import utc_now
from contracts.errors import PropagationError
from derived.read_models.account_view import (
    NAME,
    ROOTS,
    AccountEntitlement,
    AccountOrder,
    AccountPayment,
    AccountRefund,
    account_in,
)
from oltp.commands.execute import CommandPod
from oltp.reads.customers import states_of_customer


class OrderOfAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An order on its customer's page."""

    order_id: str
    order_number: str
    status: str
    currency: str
    item_quantity: int
    total_minor: int
    cancelled_minor: int
    placed_at: datetime


class PaymentOfAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A payment on its customer's page."""

    payment_id: str
    order_id: str
    status: str
    currency: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    authorized_at: datetime
    method: str | None
    """`bank_transfer` or `direct_debit`, if its money comes later."""
    pending_minor: int
    """What is still waited for."""
    expires_at: datetime | None
    """How long that is waited for."""
    returned_minor: int
    """What the bank took back; it is owed again."""


class RefundOfAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A refund on its customer's page."""

    refund_id: str
    order_id: str
    status: str
    currency: str
    amount_minor: int
    reason: str
    requested_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None
    """With `completed_at`: the money came back after it had been paid."""


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's page at one merchant, the newest first."""

    customer_id: str
    orders: list[OrderOfAccount]
    payments: list[PaymentOfAccount]
    refunds: list[RefundOfAccount]
    levels: dict[str, int]
    """What the customer is entitled to now: level by feature."""


def get_account(call: Call) -> Answer:
    """Return a customer's orders, payments, refunds and entitlements.

    They come from the account view; Tieout-Applied-Cut and Tieout-Data-Age (seconds) say how new it is. With
    Tieout-Position the answer holds the write that returned it: if the view is not there within half a second, OLTP
    answers.
    """
    customer_id = call.text("customer_id")
    pod = call.services.pods.home(call.merchant_id)
    try:
        if _view_is_enough(call, pod):
            return _from_view(call, pod, customer_id)
    except PropagationError:
        # The view does not answer, OLTP does.
        pass
    return _from_oltp(call, pod, customer_id)


def _view_is_enough(call: Call, pod: CommandPod) -> bool:
    token = call.headers.get(POSITION.lower())
    if token is None:
        return True
    position = position_of(call.services.tokens, token)
    # Cuts of one pod say nothing of another's transactions.
    return position.pod == pod.pod and call.services.models.has(NAME, pod, position)


def _from_view(call: Call, pod: CommandPod, customer_id: str) -> Answer:
    with call.services.models.snapshot() as connection:
        account = account_in(connection, call.merchant_id, customer_id, pod=pod.pod)
    headers = view_headers(NAME, account.freshness, pod.pod)
    page = _page(customer_id, account.orders, account.payments, account.refunds, account.levels)
    return Answer(value=page, headers=headers)


def _from_oltp(call: Call, pod: CommandPod, customer_id: str) -> Answer:
    rows: dict[type[Any], list[Any]] = {}
    with connection_of(pod) as connection:
        for root in ROOTS:
            states = states_of_customer(connection, root.state_type, call.merchant_id, customer_id)
            rows[root.row_type] = [row for state in states if (row := root.row(state, pod.pod, "")) is not None]
    orders = sorted(rows[AccountOrder], key=lambda row: (row.placed_at, row.order_id), reverse=True)
    payments = sorted(rows[AccountPayment], key=lambda row: (row.authorized_at, row.payment_id), reverse=True)
    refunds = sorted(rows[AccountRefund], key=lambda row: (row.requested_at, row.refund_id), reverse=True)
    now = utc_now()
    levels = {row.feature: row.level_at(now) for row in rows[AccountEntitlement]}
    return Answer(
        value=_page(customer_id, orders, payments, refunds, levels), headers=copy_headers("oltp", age_seconds=0.0)
    )


def _page(
    customer_id: str,
    orders: list[AccountOrder],
    payments: list[AccountPayment],
    refunds: list[AccountRefund],
    levels: dict[str, int],
) -> AccountPage:
    return AccountPage(
        customer_id=customer_id,
        orders=[_shown(OrderOfAccount, row) for row in orders],
        payments=[_shown(PaymentOfAccount, row) for row in payments],
        refunds=[_shown(RefundOfAccount, row) for row in refunds],
        levels=levels,
    )


def _shown(shape: Any, row: Any) -> Any:
    """Return what a customer sees of a row of the view: not where it lives and which version it has."""
    return shape(**{name: getattr(row, name) for name in shape.__struct_fields__})


ROUTES: tuple[Route, ...] = (
    Route(
        name="get_account",
        method="GET",
        path="/v1/customers/{customer_id}/account",
        summary="A customer's page",
        handler=get_account,
        roles=SELLERS,
        criticality=Criticality.PAGE,
        work=Work.STOREFRONT,
        deadline_seconds=3.0,
        answer=AccountPage,
        takes_position=True,
        parameters={"customer_id": "The merchant's own id of the customer"},
    ),
)
