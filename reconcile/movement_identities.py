"""Identities of payments whose money comes later: what moved, what is waited for, and what banks took back.

Belongs here: these rules as SQL over OLTP at a cut. Does not belong here: all other rules of payments
(`oltp_identities.py`).
"""

from __future__ import annotations

from reconcile.entities import AGGREGATE_ID
from reconcile.identity import Identity, sum_of_parts

LEFT = "case kind when 'unallocated' then amount_minor when 'given_back' then -amount_minor else 0 end"
WAITS = (
    "r.status in ('pending', 'captured') and r.method is not null "
    "and r.captured_minor + r.released_minor < r.authorized_minor"
)


def _moved(name: str, amount: str) -> Identity:
    """Return the identity: a payment's figure is the sum over its movements."""
    return sum_of_parts("payments", "payment", name, "payment_movements", amount)


MOVEMENT_IDENTITIES = (
    _moved("returned_minor", "if(kind = 'returned', amount_minor, 0)"),
    _moved("return_fee_minor", "fee_minor"),
    _moved("unallocated_minor", LEFT),
    Identity(
        name="taken_back_minor_within_captured",
        aggregate_type="payment",
        is_limit=True,
        rows=f"""
            select {AGGREGATE_ID}, merchant_id, currency, captured_minor as expected,
                   disputed_minor + charged_back_minor + returned_minor as actual
            from {{payments}}""",
    ),
    Identity(
        name="receipts_minor_within_what_came",
        aggregate_type="payment",
        is_limit=True,
        rows=f"""
            select m.{AGGREGATE_ID}, m.merchant_id, p.currency,
                   coalesce(case m.kind when 'returned' then c.came_minor else u.came_minor end, 0) as expected,
                   m.amount_minor as actual
            from {{payment_movements}} as m
            join {{payments}} as p on p.{AGGREGATE_ID} = m.{AGGREGATE_ID}
            left join (
                select {AGGREGATE_ID}, provider_reference, sum(amount_minor) as came_minor
                from {{payment_captures}} group by all
            ) as c on c.{AGGREGATE_ID} = m.{AGGREGATE_ID} and c.provider_reference = m.provider_reference
            left join (
                select {AGGREGATE_ID}, provider_reference, sum(amount_minor) as came_minor
                from {{payment_movements}} where kind = 'unallocated' group by all
            ) as u on u.{AGGREGATE_ID} = m.{AGGREGATE_ID} and u.provider_reference = m.provider_reference
            where m.kind <> 'unallocated'""",
    ),
    Identity(
        name="waiting_of_its_amounts",
        aggregate_type="payment",
        rows=f"""
            select r.{AGGREGATE_ID}, r.merchant_id, r.currency, 0 as expected,
                   if(case when r.expires_at is null then r.status <> 'pending' else {WAITS} end, 0, 1) as actual
            from {{payments}} as r""",
    ),
)
"""`receipts_minor_within_what_came`: no more went back of a receipt than came with it."""
