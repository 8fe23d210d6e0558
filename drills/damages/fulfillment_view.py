"""Damages that only rows of the fulfillment view can have, and their required outcomes.

Belongs here: these damages, grouped by round. Does not belong here: damages of every read model
(`drills/damages/read_models.py`).
"""

from __future__ import annotations

from functools import partial

from contracts.verdicts import DifferenceClass as Class
from drills.damages import read_models

NAME = "fulfillment_view"

lose_order = read_models.one("order", "delete from read_models.fulfillment_orders where {where}")
add_order = read_models.ghost("order", "fulfillment_orders")
age_order = read_models.one(
    "order", "update read_models.fulfillment_orders set version = version - 1 where {where}", "changed"
)
change_quantity = read_models.one(
    "order", "update read_models.fulfillment_orders set open_quantity = open_quantity + 1 where {where}"
)
change_two_quantities = read_models.two("order", "fulfillment_orders", "open_quantity")
lose_lines = read_models.one("order", "delete from read_models.fulfillment_lines where {where}", "open")
lose_reservation = read_models.one(
    "reservation", "delete from read_models.fulfillment_reservations where {where}", "consumed"
)


truncate_fulfillment = read_models.whole("delete from read_models.fulfillment_orders where pod = %(pod)s")
truncate_lines = read_models.whole(
    """delete from read_models.fulfillment_lines as line using read_models.fulfillment_orders as root
       where root.merchant_id = line.merchant_id and root.order_id = line.order_id and root.pod = %(pod)s"""
)


_in_rows = partial(read_models.in_rows, NAME)

ROWS = (
    _in_rows("row missing", lose_order, Class.MISSING),
    _in_rows("row extra", add_order, Class.EXTRA),
    _in_rows("row stale", age_order, Class.STALE),
    _in_rows("changed by one unit", change_quantity, Class.DIFFERENT),
    _in_rows("two errors that cancel", change_two_quantities, Class.DIFFERENT),
    _in_rows("lines missing", lose_lines, Class.MISSING),
    _in_rows("reservation missing", lose_reservation, Class.MISSING),
)
BEYOND = read_models.in_all(
    NAME,
    "position beyond every cut",
    read_models.position_beyond(NAME),
    Class.DIFFERENT,
    also=(Class.MISSING, Class.STALE, Class.EXTRA),
    pod=1,
)
CELLS = {
    "rows": ROWS,
    "views, first": (_in_rows("all lines deleted", truncate_lines, Class.MISSING), BEYOND),
    "views, second": (
        read_models.in_all(NAME, "view emptied", truncate_fulfillment, Class.MISSING, also=(Class.EXTRA,)),
        # A line that was shipped meanwhile is missing. There are no amounts.
        read_models.moved_back(NAME, Class.EXTRA, Class.MISSING, Class.DIFFERENT, pod=1),
    ),
    "views, third": (read_models.moved_forward(NAME),),
    "poison": (read_models.parked(NAME, "fulfillment_orders"),),
}
"""The cells by round."""
