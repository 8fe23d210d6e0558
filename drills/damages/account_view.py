"""Damages that only rows of the account view can have, and their required outcomes.

Belongs here: these damages, grouped by round. Does not belong here: damages of every read model
(`drills/damages/read_models.py`).
"""

from __future__ import annotations

from functools import partial

from contracts.verdicts import DifferenceClass as Class
from drills.damages import read_models
from drills.damages.place import Harm, Place

NAME = "account_view"

lose_row = read_models.one("payment", "delete from read_models.account_payments where {where}", "customer")
add_row = read_models.ghost("payment", "account_payments", "customer")
age_row = read_models.one(
    "payment", "update read_models.account_payments set version = version - 1 where {where}", "customer", "captured"
)
change_amount = read_models.one(
    "payment",
    "update read_models.account_payments set captured_minor = captured_minor - 1 where {where}",
    "customer",
    "captured",
)
change_currency = read_models.one(
    "payment", "update read_models.account_payments set currency = 'JPY' where {where}", "customer"
)
change_two_amounts = read_models.two("payment", "account_payments", "captured_minor", "customer", "captured")
change_status = read_models.one(
    "order", "update read_models.account_orders set status = 'lost' where {where}", "customer"
)
"""The version of the row is right, its content is wrong."""

halve_order = read_models.one(
    "order",
    """update read_models.account_orders set lines_minor = lines_minor / 2, discount_minor = discount_minor / 2,
           shipping_minor = shipping_minor / 2, tax_minor = tax_minor / 2, total_minor = total_minor / 2
       where {where}""",
    "customer",
    "captured",
)


def change_grants(place: Place) -> Harm:
    """Raise a customer's grant by one level, in the JSON column of the view."""
    return read_models.change(
        place,
        place.take("customer_entitlement"),
        """update read_models.account_entitlements set grants = replace(grants, '"level":', '"level":1')
           where entitlement_id = %(id)s""",
    )


truncate_account = read_models.whole(
    "delete from read_models.account_orders where pod = %(pod)s",
    "delete from read_models.account_payments where pod = %(pod)s",
    "delete from read_models.account_refunds where pod = %(pod)s",
    "delete from read_models.account_entitlements where pod = %(pod)s",
)
truncate_refunds = read_models.whole("delete from read_models.account_refunds where pod = %(pod)s")


_in_rows = partial(read_models.in_rows, NAME)

ROWS = (
    _in_rows("row missing", lose_row, Class.MISSING),
    _in_rows("row extra", add_row, Class.EXTRA),
    _in_rows("row stale", age_row, Class.STALE),
    _in_rows("changed by one minor unit", change_amount, Class.AMOUNT),
    _in_rows("captured order halved", halve_order, Class.AMOUNT),
    _in_rows("wrong currency", change_currency, Class.CURRENCY),
    _in_rows("two errors that cancel", change_two_amounts, Class.AMOUNT),
    _in_rows("right version, wrong content", change_status, Class.DIFFERENT),
    _in_rows("grant changed", change_grants, Class.DIFFERENT),
)
BEYOND = read_models.in_all(
    NAME,
    "position beyond every cut",
    read_models.position_beyond(NAME),
    Class.DIFFERENT,
    also=(Class.MISSING, Class.STALE),
    pod=1,
)
CELLS = {
    "rows": ROWS,
    "views, first": (
        read_models.in_all(NAME, "view emptied", truncate_account, Class.MISSING),
        # A grant that was revoked meanwhile is missing.
        read_models.moved_back(NAME, Class.EXTRA, Class.MISSING, Class.AMOUNT, Class.DIFFERENT, pod=1),
    ),
    "views, second": (read_models.moved_forward(NAME), BEYOND),
    "views, third": (read_models.in_all(NAME, "one table emptied", truncate_refunds, Class.MISSING),),
    "poison": (read_models.parked(NAME, "account_orders"),),
}
"""The cells by round."""
