"""Sums over the payments and refunds of an order that limit what may be captured, cancelled or refunded.

Belongs here: SQL that computes sums, and locking a payment with its order. Does not belong here: the limits
(`oltp/domain/`). A command that uses such a sum must lock the order first; every command that changes the sum does so
too. Each function that asks sends its query and returns a function that waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.struct_types import make_known
from oltp.domain.pending_payments import LaterMoney
from oltp.domain.refunds import LineRefunds
from oltp.store.rows import ask, load
from oltp.transaction import CommandTransaction

make_known(LineRefunds)

T = TypeVar("T")
Pending = Callable[[], T]

_LINE_REFUNDS = """
select
    given.order_line_id::text,
    coalesce(sum(given.quantity) filter (where counts), 0)::bigint as quantity,
    coalesce(sum(given.amount_minor) filter (where counts), 0)::bigint as amount_minor,
    coalesce(sum(given.tax_minor) filter (where counts), 0)::bigint as tax_minor,
    coalesce(sum(given.quantity) filter (where counts and given.is_restocked), 0)::bigint as restocked_quantity,
    coalesce(sum(given.quantity) filter (where counts and given.is_amount_named), 0)::bigint as named_quantity,
    coalesce(sum(given.amount_minor) filter (where counts and given.is_amount_named), 0)::bigint as named_minor,
    coalesce(sum(given.tax_minor) filter (where counts and given.is_amount_named), 0)::bigint as named_tax_minor,
    coalesce(
        sum(given.quantity) filter (where refunds.status = 'completed' and not given.is_restocked), 0
    )::bigint as settled_quantity,
    coalesce(sum(given.quantity) filter (where not counts), 0)::bigint as returned_quantity,
    (
        select coalesce(json_object_agg(each.jurisdiction, each.tax_minor), '{}')
        from (
            select taxes.jurisdiction, sum(taxes.tax_minor)::bigint as tax_minor
            from oltp.refund_lines as part
            inner join oltp.refund_line_taxes as taxes using (refund_line_id)
            inner join oltp.refunds as whole on part.refund_id = whole.refund_id
            where part.order_line_id = given.order_line_id and whole.status <> 'failed'
            group by taxes.jurisdiction
        ) as each
    ) as taxes
from oltp.refunds
inner join oltp.refund_lines as given using (refund_id)
cross join lateral (select refunds.status <> 'failed' as counts) as whether
where refunds.order_id = %s and (counts or (refunds.completed_at is not null and given.is_restocked))
group by given.order_line_id
"""
_PENDING_REFUNDS = """
select coalesce(sum(amount_minor), 0)::bigint from oltp.refunds where payment_id = %s and status = 'requested'
"""
_LATER_MONEY = """
select
    coalesce(bool_or(expires_at is not null), false),
    coalesce(sum(captured_minor - returned_minor), 0)::bigint,
    coalesce(sum(returned_minor), 0)::bigint,
    (select ships_before_paid from oltp.merchants where merchant_id = %s)
from oltp.payments where order_id = %s
"""
_CAPTURED_OF_ORDER = """
select coalesce(sum(captured_minor - returned_minor), 0)::bigint from oltp.payments where order_id = %s
"""


def lock_with_order(tx: CommandTransaction, merchant_id: str, payment_id: str) -> tuple[OrderState, PaymentState]:
    """Return a payment and its order. The order is locked first, because what it owes changes with the payment."""
    order_id = load(tx, PaymentState, merchant_id, payment_id, lock=False).order_id
    ask_order = ask(tx, OrderState, merchant_id, order_id)
    ask_payment = ask(tx, PaymentState, merchant_id, payment_id)
    return ask_order(), ask_payment()


def line_refunds(tx: CommandTransaction, order_id: str) -> Pending[dict[str, LineRefunds]]:
    """Ask for the refunds by order line id: requested and completed refunds; lines without refunds are left out.

    Of refunds that failed after they were completed only the units that came back are counted.
    """
    cursor = tx.query(_LINE_REFUNDS, [order_id])
    names = LineRefunds.__struct_fields__
    return lambda: {
        line_id: msgspec.convert(dict(zip(names, sums, strict=True)), LineRefunds)
        for line_id, *sums in cursor.fetchall()
    }


def pending_refunds(tx: CommandTransaction, payment_id: str) -> Pending[int]:
    """Ask for the sum of the payment's refunds that are requested and not settled, in minor units."""
    return _sum(tx, _PENDING_REFUNDS, payment_id)


def captured_of_order(tx: CommandTransaction, order_id: str) -> Pending[int]:
    """Ask for the sum captured over all payments of the order, less what banks took back, in minor units."""
    return _sum(tx, _CAPTURED_OF_ORDER, order_id)


def later_money_of_order(tx: CommandTransaction, merchant_id: str, order_id: str) -> Pending[LaterMoney]:
    """Ask for what decides whether an order may be shipped before it is paid."""
    cursor = tx.query(_LATER_MONEY.encode(), [merchant_id, order_id])

    def answer() -> LaterMoney:
        ((is_awaited, captured_minor, returned_minor, ships_before_paid),) = cursor.fetchall()
        return LaterMoney(
            is_awaited=is_awaited,
            captured_minor=captured_minor,
            returned_minor=returned_minor,
            ships_before_paid=ships_before_paid,
        )

    return answer


def _sum(tx: CommandTransaction, statement: str, aggregate_id: str) -> Pending[int]:
    cursor = tx.query(statement.encode(), [aggregate_id])
    return lambda: sum(row[0] for row in cursor.fetchall())
