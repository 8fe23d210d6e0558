"""Damages of the read models: rows missing, extra, stale, changed; tables emptied; positions moved; events refused.

Belongs here: those damages. Does not belong here: what must become of them (`bench/damages.py`).
"""

from __future__ import annotations

from typing import Any

from bench.damage_place import WHOLE, Damage, Harm, Place, Target, Undo, harm, until

ACCOUNT, FULFILLMENT = "account_view", "fulfillment_view"
GHOST = "01970000-0000-7000-8000-000000000000"
ID_COLUMNS = {"payment": "payment_id", "order": "order_id", "reservation": "reservation_id"}


def _change(place: Place, target: Target, *statements: str, **values: Any) -> Harm:
    place.change_view(*statements, id=target.aggregate_id, **values)
    return harm(target)


def _one(kind: str, statement: str, *traits: str) -> Damage:
    """Return a damage to the row of one aggregate; ``{where}`` stands for the condition that chooses it."""

    def do(place: Place) -> Harm:
        return _change(place, place.take(kind, *traits), statement.format(where=f"{ID_COLUMNS[kind]} = %(id)s"))

    return do


def _two(kind: str, table: str, column: str, *traits: str) -> Damage:
    """Return two errors that cancel: one more in a row, one less in another."""

    def do(place: Place) -> Harm:
        one, other = place.take(kind, *traits), place.take(kind, *traits)
        for target, difference in ((one, 1), (other, -1)):
            statement = f"update read_models.{table} set {column} = {column} + %(by)s where {ID_COLUMNS[kind]} = %(id)s"
            _change(place, target, statement, by=difference)
        return harm(one, other)

    return do


def _ghost(kind: str, table: str, *traits: str) -> Damage:
    """Return the damage of a row that no aggregate accounts for: a copy of another, under an id of its own."""

    def do(place: Place) -> Harm:
        like = place.take(kind, *traits)
        _change(
            place,
            like,
            f"create temp table ghost (like read_models.{table}) on commit drop",
            f"insert into ghost select * from read_models.{table} where {ID_COLUMNS[kind]} = %(id)s",
            f"update ghost set {ID_COLUMNS[kind]} = '{GHOST}'",
            f"insert into read_models.{table} select * from ghost",
        )
        ghost = Target(kind=kind, merchant_id=like.merchant_id, aggregate_id=GHOST, traits=frozenset())
        return harm(ghost)

    return do


lose_row = _one("payment", "delete from read_models.account_payments where {where}", "customer")
add_row = _ghost("payment", "account_payments", "customer")
age_row = _one(
    "payment", "update read_models.account_payments set version = version - 1 where {where}", "customer", "captured"
)
change_amount = _one(
    "payment",
    "update read_models.account_payments set captured_minor = captured_minor - 1 where {where}",
    "customer",
    "captured",
)
change_currency = _one("payment", "update read_models.account_payments set currency = 'JPY' where {where}", "customer")
change_two_amounts = _two("payment", "account_payments", "captured_minor", "customer", "captured")
change_status = _one("order", "update read_models.account_orders set status = 'lost' where {where}", "customer")
"""Its version is right, its content is wrong."""

halve_order = _one(
    "order",
    """update read_models.account_orders set lines_minor = lines_minor / 2, discount_minor = discount_minor / 2,
           shipping_minor = shipping_minor / 2, tax_minor = tax_minor / 2, total_minor = total_minor / 2
       where {where}""",
    "customer",
    "captured",
)

lose_order = _one("order", "delete from read_models.fulfillment_orders where {where}")
add_order = _ghost("order", "fulfillment_orders")
age_order = _one("order", "update read_models.fulfillment_orders set version = version - 1 where {where}", "changed")
change_quantity = _one(
    "order", "update read_models.fulfillment_orders set open_quantity = open_quantity + 1 where {where}"
)
change_two_quantities = _two("order", "fulfillment_orders", "open_quantity")
lose_lines = _one("order", "delete from read_models.fulfillment_lines where {where}", "open")
lose_reservation = _one("reservation", "delete from read_models.fulfillment_reservations where {where}", "consumed")


def change_grants(place: Place) -> Harm:
    """Raise a customer's grant by one level, inside the JSON that the view keeps."""
    return _change(
        place,
        place.take("customer_entitlement"),
        """update read_models.account_entitlements set grants = replace(grants, '"level":', '"level":1')
           where entitlement_id = %(id)s""",
    )


def _whole(*statements: str) -> Damage:
    def do(place: Place) -> Harm:
        place.change_view(*statements)
        return WHOLE

    return do


truncate_account = _whole(
    "delete from read_models.account_orders where pod = %(pod)s",
    "delete from read_models.account_payments where pod = %(pod)s",
    "delete from read_models.account_refunds where pod = %(pod)s",
    "delete from read_models.account_entitlements where pod = %(pod)s",
)
truncate_fulfillment = _whole("delete from read_models.fulfillment_orders where pod = %(pod)s")
truncate_lines = _whole(
    """delete from read_models.fulfillment_lines as line using read_models.fulfillment_orders as root
       where root.merchant_id = line.merchant_id and root.order_id = line.order_id and root.pod = %(pod)s"""
)
truncate_refunds = _whole("delete from read_models.account_refunds where pod = %(pod)s")


def position_back(view: str) -> Damage:
    """Return the damage that moves a view's position back by three cuts, rows apart: they stay as new as they are."""
    return _whole(
        f"""update read_models.positions set cut = greatest(cut - 3, 0), chunk = 0
            where projection = '{view}' and pod = %(pod)s"""
    )


def position_forward(view: str) -> Damage:
    """Return the damage that moves a view's position past events that it has not applied."""

    def do(place: Place) -> Harm:
        with place.views() as connection:
            # The consumer waits for this lock while new orders reach the lake.
            connection.execute(
                "select from read_models.positions where projection = %s and pod = %s for update", [view, place.pod]
            )
            place.place_orders()
            connection.execute(
                "update read_models.positions set cut = %s, chunk = 0 where projection = %s and pod = %s",
                [place.lake_cut(), view, place.pod],
            )
        return WHOLE

    return do


def position_beyond(view: str) -> Damage:
    """Return the damage that moves a view's position past the newest cut, where it would wait for ever."""
    return _whole(
        f"""update read_models.positions set cut = cut + 1000000, chunk = 0
            where projection = '{view}' and pod = %(pod)s"""
    )


REFUSE = """
    create or replace function read_models.refuse() returns trigger language plpgsql as
    'begin raise exception using errcode = ''22023'', message = ''this version cannot store it''; end'
"""


def park_events(view: str, table: str) -> Damage:
    """Return the damage of a view that refuses new orders for a while: they are parked, with what follows them."""

    def do(place: Place) -> Harm:
        place.change_view(
            REFUSE,
            f"""create or replace trigger refuse before insert or update on read_models.{table}
                for each row when (new.pod = '{place.pod}') execute function read_models.refuse()""",
        )
        place.place_orders()
        newest = place.lake_cut()
        until(lambda: _position(place, view) >= newest, f"{view} at cut {newest}")
        # As if it had been an hour: nobody is told of what is parked for a moment.
        aged = """update read_models.parked_events set parked_at = parked_at - interval '1 hour'
                  where projection = %s and pod = %s and parked_at > now() - interval '30 minutes'"""
        with place.views() as connection:
            connection.autocommit = True
            until(lambda: connection.execute(aged, [view, place.pod]).rowcount > 0, "A parked event")
        return WHOLE

    return do


def _position(place: Place, view: str) -> int:
    query = "select coalesce(min(cut), 0) from read_models.positions where projection = %s and pod = %s"
    with place.views() as connection:
        return int(connection.execute(query, [view, place.pod]).fetchall()[0][0])


def fix_view(table: str) -> Undo:
    """Return the fix: the view stores orders again."""

    def undo(place: Place, done: Harm) -> None:
        place.change_view(f"drop trigger if exists refuse on read_models.{table}")

    return undo
