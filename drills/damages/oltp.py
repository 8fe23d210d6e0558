"""Damages of OLTP: writes behind the outbox, and inconsistent data in OLTP, which only people correct.

Belongs here: these damages, and how a person corrects the inconsistent data. Does not belong here: the required
outcomes (`drills/damages/rounds.py`).
"""

from __future__ import annotations

from typing import Any

from contracts.ids import uuid7
from drills.damages.place import Damage, Harm, Place, Target, Undo, harm


def _one(kind: str, statement: str, *traits: str) -> Damage:
    def do(place: Place) -> Harm:
        target = place.take(kind, *traits)
        place.change_oltp(statement, id=target.aggregate_id)
        return harm(target, note=target.aggregate_id)

    return do


change_customer = _one("order", "update oltp.orders set customer_id = 'a customer by hand' where order_id = %(id)s")
"""As by an ad-hoc script: the order has a value that no event has."""
change_title = _one("product", "update oltp.products set title = title || ' (new)' where product_id = %(id)s")


change_card = _one("gift_card", "update oltp.gift_cards set reason = 'by hand' where gift_card_id = %(id)s")


change_account = _one("payment", "update oltp.payments set pay_to = 'another' where payment_id = %(id)s", "later")
"""The customer of a payment whose money comes later is told another account than its event says."""


def insert_adjustment(place: Place) -> Harm:
    """Insert an adjustment without a command."""
    like = place.take("adjustment")
    new_id = str(uuid7())
    place.change_oltp(
        """insert into oltp.adjustments
           select (json_populate_record(a, json_build_object('adjustment_id', %(new_id)s::text))).*
           from oltp.adjustments as a where adjustment_id = %(id)s""",
        id=like.aggregate_id,
        new_id=new_id,
    )
    return harm(Target(kind=like.kind, merchant_id=like.merchant_id, aggregate_id=new_id, traits=frozenset()))


def _lose(table: str, condition: str, kind: str, *traits: str) -> Damage:
    """Return the damage that deletes one row; its note is the row."""

    def do(place: Place) -> Harm:
        target = place.take(kind, *traits)
        (row,) = _found(place, f"select row_to_json(t)::text from oltp.{table} as t where {condition}", target)
        place.change_oltp(f"delete from oltp.{table} where {condition}", id=target.aggregate_id)
        return harm(target, note=row)

    return do


def _restore(table: str) -> Undo:
    """Return the correction that inserts the row again unchanged."""

    def undo(place: Place, done: Harm) -> None:
        row = f"json_populate_record(null::oltp.{table}, %(row)s::json)"
        place.change_oltp(f"insert into oltp.{table} select * from {row}", row=done.note)

    return undo


def _found(place: Place, query: str, target: Target) -> tuple[Any, ...]:
    """Return the only row of a query about an aggregate."""
    with place.oltp() as connection:
        rows: list[tuple[Any, ...]] = connection.execute(query.encode(), {"id": target.aggregate_id}).fetchall()
    (row,) = rows
    return row


delete_adjustment = _lose("adjustments", "adjustment_id = %(id)s", "adjustment")
"""Only the copies still have it."""
restore_adjustment = _restore("adjustments")

lose_one_tax = _lose("order_line_taxes", "order_id = %(id)s and jurisdiction = 'CA-QST'", "order", "several taxes")
"""One of the two taxes of a line."""
restore_tax = _restore("order_line_taxes")


def change_event(place: Place) -> Harm:
    """Change a published event in the outbox whose aggregate has later events."""
    target = place.take("payment", "captured")
    query = """select event_id::text, payload::text from oltp.outbox
               where aggregate_type = 'payment' and aggregate_id = %(id)s order by aggregate_version limit 1"""
    event_id, payload = _found(place, query, target)
    place.change_oltp(
        """update oltp.outbox set payload = jsonb_set(
               payload::jsonb, '{state,authorized_minor}',
               to_jsonb((payload #>> '{state,authorized_minor}')::bigint + 1)
           )::json where event_id = %(id)s""",
        id=event_id,
    )
    return harm(target, note=(event_id, payload))


def restore_event(place: Place, done: Harm) -> None:
    """Restore the event byte for byte."""
    event_id, payload = done.note
    statement = "update oltp.outbox set payload = %(payload)s::json where event_id = %(id)s"
    place.change_oltp(statement, id=event_id, payload=payload)


def _of_refund(place: Place, target: Target) -> Target:
    (payment_id,) = _found(place, "select payment_id::text from oltp.refunds where refund_id = %(id)s", target)
    return Target(kind="payment", merchant_id=target.merchant_id, aggregate_id=payment_id, traits=frozenset())


REFUND = "update oltp.refunds set amount_minor = amount_minor {sign} 1000000 where refund_id = %(id)s"


def refund_too_much(place: Place) -> Harm:
    """Set a refund above the captured amount, with the checks of the database disabled."""
    target = place.take("refund", "completed")
    place.change_oltp(REFUND.format(sign="+"), id=target.aggregate_id)
    return harm(target, _of_refund(place, target), note=target.aggregate_id)


def _of_note(statement: str) -> Undo:
    def undo(place: Place, done: Harm) -> None:
        place.change_oltp(statement, id=done.note)

    return undo


correct_refund = _of_note(REFUND.format(sign="-"))

CAPTURED = "update oltp.payments set captured_minor = captured_minor {sign} 1 where payment_id = %(id)s"
capture_one_less = _one("payment", CAPTURED.format(sign="-"), "captured")
correct_capture = _of_note(CAPTURED.format(sign="+"))

UNALLOCATED = "update oltp.payments set unallocated_minor = unallocated_minor {sign} 1 where payment_id = %(id)s"
unallocate_one_more = _one("payment", UNALLOCATED.format(sign="+"), "later")
"""No receipt has brought it."""
correct_unallocated = _of_note(UNALLOCATED.format(sign="-"))

CREDITED = """
    update oltp.gift_cards set credited_minor = credited_minor {sign} 1, balance_minor = balance_minor {sign} 1
    where gift_card_id = %(id)s
"""
credit_one_more = _one("gift_card", CREDITED.format(sign="+"), "active")
"""The balance is still the sum of its parts, but no refund was paid onto the card."""
correct_card = _of_note(CREDITED.format(sign="-"))

TOTAL = """
    update oltp.orders set lines_minor = lines_minor {sign} 1, total_minor = total_minor {sign} 1
    where order_id = %(id)s
"""
total_one_more = _one("order", TOTAL.format(sign="+"))
correct_total = _of_note(TOTAL.format(sign="-"))

LINES = """
    update oltp.order_lines set total_minor = total_minor {sign} case line_number
        when (select min(line_number) from oltp.order_lines where order_id = %(id)s) then 1
        when (select max(line_number) from oltp.order_lines where order_id = %(id)s) then -1
        else 0 end
    where order_id = %(id)s
"""
change_two_lines = _one("order", LINES.format(sign="+"), "several lines")
"""Two errors that cancel each other: the order's total is still the sum of its lines."""
correct_lines = _of_note(LINES.format(sign="-"))


SWAPPED = """
    update oltp.order_line_taxes as one set tax_minor = other.tax_minor from oltp.order_line_taxes as other
    where other.order_line_id = one.order_line_id and other.jurisdiction <> one.jurisdiction and one.order_id = %(id)s
"""
swap_taxes = _one("order", SWAPPED, "several taxes")
"""The sum of the two taxes is still the line's tax."""
correct_taxes = _of_note(SWAPPED)


def change_payment_currency(place: Place) -> Harm:
    """Change the currency of a payment, so that it differs from its order's."""
    target = place.take("payment", "captured")
    (currency,) = _found(place, "select currency from oltp.payments where payment_id = %(id)s", target)
    statement = "update oltp.payments set currency = 'JPY' where payment_id = %(id)s"
    place.change_oltp(statement, id=target.aggregate_id)
    return harm(target, note=(target.aggregate_id, currency))


def correct_payment_currency(place: Place, done: Harm) -> None:
    """Restore the payment's currency."""
    payment_id, currency = done.note
    statement = "update oltp.payments set currency = %(currency)s where payment_id = %(id)s"
    place.change_oltp(statement, id=payment_id, currency=currency)


IN_CURRENCY = "update oltp.{table} set currency = %(currency)s where order_id = %(id)s"


def change_both_currencies(place: Place) -> Harm:
    """Change the currency of an order and its payment to yen, so that both differ from their merchant's."""
    order = None
    while order is None:  # another damage may have taken the order
        payment = place.take("payment", "captured", "unrefunded")
        query = "select order_id::text, currency from oltp.payments where payment_id = %(id)s"
        order_id, currency = _found(place, query, payment)
        order = place.take_known("order", order_id)
    statements = [IN_CURRENCY.format(table=table) for table in ("orders", "payments")]
    place.change_oltp(*statements, id=order_id, currency="JPY")
    return harm(order, payment, note=(order_id, currency))


def correct_both_currencies(place: Place, done: Harm) -> None:
    """Restore the currency of both."""
    order_id, currency = done.note
    statements = [IN_CURRENCY.format(table=table) for table in ("orders", "payments")]
    place.change_oltp(*statements, id=order_id, currency=currency)


STOCK = """
    update oltp.stock_slots set on_hand = on_hand {sign} 1
    where (variant_id, location_id, slot) = (
        select variant_id, location_id, slot from oltp.stock_slots order by 1, 2, 3 limit 1
    )
"""


def miscount_stock(place: Place) -> Harm:
    """Set a stock level one unit above the sum of its movements."""
    place.change_oltp(STOCK.format(sign="+"))
    return Harm()


def count_stock(place: Place, done: Harm) -> None:
    """Restore the stock level."""
    place.change_oltp(STOCK.format(sign="-"))
