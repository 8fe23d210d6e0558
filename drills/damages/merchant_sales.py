"""Damages of merchant sales, in its rows and in the sums over them, and their required outcomes.

Belongs here: these damages, grouped by round. Does not belong here: damages of every read model
(`drills/damages/read_models.py`).
"""

from __future__ import annotations

from functools import partial

from contracts.verdicts import DifferenceClass as Class
from drills.damages import read_models
from drills.damages.place import Cell, Damage, Harm, Place, Target, harm

NAME = "merchant_sales"
SUMS = "merchant_sales_days"
SUM_OF_ORDER = """
    select md5(merchant_id || '/' || day || '/' || currency)::uuid::text from read_models.sales_orders
    where order_id = %(id)s"""

lose_row = read_models.one("order", "delete from read_models.sales_orders where {where}")
add_row = read_models.ghost("order", "sales_orders")
age_row = read_models.one("order", "update read_models.sales_orders set version = version - 1 where {where}", "changed")
change_amount = read_models.one(
    "order", "update read_models.sales_orders set ordered_minor = ordered_minor + 1 where {where}"
)
change_two_amounts = read_models.two("order", "sales_orders", "ordered_minor")
lose_captures = read_models.one("payment", "delete from read_models.sales_captures where {where}", "captured")
move_day = read_models.one("order", "update read_models.sales_orders set day = '1999-12-31' where {where}")
"""The amount is right, but it counts in the sum of another day."""


def _of_sum(statement: str) -> Damage:
    """Return a damage to the day's sum of one order; ``{where}`` is replaced by the condition that selects the sum."""

    def do(place: Place) -> Harm:
        order, sum_id = _take_sum(place)
        place.change_view(statement.format(where="sales_day_id = %(sum_id)s"), sum_id=sum_id)
        return harm(Target(kind=SUMS, merchant_id=order.merchant_id, aggregate_id=sum_id, traits=frozenset()))

    return do


def _take_sum(place: Place) -> tuple[Target, str]:
    """Return an order and the id of its day's sum, a sum that no damage had before."""
    with place.views() as connection:
        while True:
            order = place.take("order")
            ((sum_id,),) = connection.execute(SUM_OF_ORDER.encode(), {"id": order.aggregate_id}).fetchall()
            if place.give_once(sum_id):
                return order, sum_id


change_sum = _of_sum(f"update read_models.{SUMS} set captured_minor = captured_minor + 1 where {{where}}")
lose_sum = _of_sum(f"delete from read_models.{SUMS} where {{where}}")
empty_sales = read_models.whole(
    "delete from read_models.sales_orders where pod = %(pod)s",
    "delete from read_models.sales_payments where pod = %(pod)s",
    "delete from read_models.sales_refunds where pod = %(pod)s",
)


_in_rows = partial(read_models.in_rows, NAME)

ROWS = (
    _in_rows("row missing", lose_row, Class.MISSING),
    _in_rows("row extra", add_row, Class.EXTRA),
    _in_rows("row stale", age_row, Class.STALE),
    _in_rows("changed by one minor unit", change_amount, Class.AMOUNT),
    _in_rows("two errors that cancel", change_two_amounts, Class.AMOUNT),
    _in_rows("captures missing", lose_captures, Class.MISSING),
    _in_rows("row on another day", move_day, Class.DIFFERENT),
)
LOST_SUM = Cell(
    damage="sum missing",
    store=NAME,
    do=lose_sum,
    # An amount where running traffic has begun the day's sum again meanwhile, only with what came since.
    named_one_of={f"lake_{NAME}": frozenset({Class.MISSING, Class.AMOUNT})},
    actions=read_models.KEYS,
    pod=1,  # in the other pod than the changed sum: a pod may have a single one
)
CELLS = {
    "rows": ROWS,
    "views, first": (
        read_models.in_all(NAME, "view emptied", empty_sales, Class.MISSING),
        # No row ever ends here.
        read_models.moved_back(NAME, Class.EXTRA, Class.AMOUNT, Class.DIFFERENT, pod=1),
    ),
    "views, second": (read_models.moved_forward(NAME),),
    "views, third": (_in_rows("sum changed by one minor unit", change_sum, Class.AMOUNT), LOST_SUM),
    "poison": (read_models.parked(NAME, "sales_orders"),),
}
"""The cells by round."""
