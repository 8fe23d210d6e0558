"""What a payment has of its movements, as SQL over an event's payload: what banks took back, fees, unallocated money.

Belongs here: these totals, and that they are what the movements say. Does not belong here: all other rules of payloads
(`defects.py`).
"""

from __future__ import annotations

RETURNED, RETURN_FEE, UNALLOCATED = (
    f"coalesce(try_cast(added.{name} as BIGINT), 0)"
    for name in ("returned_minor", "return_fee_minor", "unallocated_minor")
)
"""The totals; earlier events lack them, and had none."""

PARTS = {
    RETURNED: "if(one.kind = 'returned', one.amount_minor, 0)",
    RETURN_FEE: "one.fee_minor",
    UNALLOCATED: "case one.kind when 'unallocated' then one.amount_minor when 'given_back' then -one.amount_minor "
    "else 0 end",
}


def movements_agree(movements: str) -> str:
    """Return a condition: each total is the sum over the list `movements`, and none is below 0."""
    return " and ".join(
        f"{total} >= 0 and {total} = "
        f"coalesce(list_sum(list_transform({movements}, lambda one: ({amount})::HUGEINT)), 0)"
        for total, amount in PARTS.items()
    )
