"""What the books already hold of an order, and the amounts of the order according to the file.

Belongs here: deciding whether an order is new, booked in part, booked wholly, or booked with other content. Does not
belong here: the SQL (`books.py`).

An order with more steps than before (a shipment, a refund) is continued; we recognise its booked steps by their keys,
which count in file order. If a booked step is missing in the file, or its key has another body, it is another order
with the same number: rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from contracts.currencies import EXPONENTS
from contracts.errors import InputError
from contracts.events.merchant import MerchantState
from contracts.limits import MERCHANT_ID
from contracts.money import require_current
from oltp.commands.body import has_body
from oltp.commands.checking import check_value
from oltp.commands.register_merchant import check_merchant
from traffic import books as pod_books
from traffic.books import Connection
from traffic.orders import books as order_books
from traffic.orders.amounts import minor_of
from traffic.orders.booking import CHANGED
from traffic.orders.format import OrderRecord
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import PLACE, bound, key_of, order_id
from traffic.orders.reading import RawOrder
from traffic.orders.rehearsal import Plan
from traffic.orders.report import Figures, Outcome


@dataclass(kw_only=True)
class Known:
    """The stored body hashes by (merchant, key), and the ids of the orders' lines."""

    hashes: dict[tuple[str, str], str] = field(default_factory=dict)
    line_ids: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, connection: Connection, plans: Sequence[Plan]) -> None:
        """Read the data of these orders from a pod."""
        if not plans:
            return
        keys = [(plan.record.merchant_id, key) for plan in plans for key in (*plan.keys, *plan.absent_keys)]
        self.hashes.update(pod_books.stored_keys(connection, keys))
        self.line_ids.update(order_books.line_ids(connection, [order_id(plan.record) for plan in plans]))


def compare(plan: Plan, known: Known, raw: RawOrder) -> tuple[Outcome | None, tuple[str, ...]]:
    """Return the outcome if the order needs no booking, else None, and the names of its already booked steps."""
    record = plan.record
    line_ids = known.line_ids.get(order_id(record), {})
    stored = {
        step.name: known.hashes.get((record.merchant_id, key_of(record.order_number, step.name))) for step in plan.steps
    }
    different = [key for key in plan.absent_keys if (record.merchant_id, key) in known.hashes]
    for step in plan.steps:
        found = stored[step.name]
        if found is not None and (not line_ids or not has_body(bound(step, line_ids), found)):
            different.append(key_of(record.order_number, step.name))
            if step.name == PLACE:
                # Stop here: the other steps name lines that the placed order may not have.
                break
    if different:
        detail = f"the books have another {', '.join(different)}"
        return Outcome(file=raw.file, line=raw.line, reason=CHANGED, detail=detail), ()
    before = tuple(name for name, found in stored.items() if found is not None)
    if len(before) == len(stored):
        booked = Figures(sold=plan.sold_minor, captured=plan.captured_minor, refunded=plan.refunded_minor)
        unallocated = plan.unallocated_minor
        return Outcome(
            file=raw.file, line=raw.line, booked=booked, unallocated_minor=unallocated, is_already=True
        ), before
    return None, before


def stated_figures(record: OrderRecord, plan: Plan | None) -> Figures:
    """Return an order's amounts from the file; amounts that it does not state come from the plan (0 without a plan)."""
    currency = record.currency
    if currency not in EXPONENTS:
        raise RejectedError("currency_not_known")
    sold = plan.sold_minor if plan else 0
    if record.total is not None:
        sold = minor_of(record.total, currency, "total") + (plan.unallocated_minor if plan else 0)
    captured = sum(minor_of(payment.captured or Decimal(0), currency, "captured") for payment in record.payments)
    stated = [refund.amount for refund in record.refunds]
    if all(amount is not None for amount in stated):
        refunded = sum(minor_of(amount or Decimal(0), currency, "amount") for amount in stated)
    else:
        refunded = plan.refunded_minor if plan else 0
    return Figures(sold=sold, captured=captured, refunded=refunded)


def unregistered(record: OrderRecord) -> MerchantState:
    """Return the merchant that would be registered for an order; RejectedError when it is not valid."""
    merchant = MerchantState(
        merchant_id=record.merchant_id,
        version=1,
        name=record.merchant_id,
        currency=record.currency,
        is_active=True,
        is_tax_inclusive=record.is_tax_inclusive,
        jurisdiction=record.jurisdiction,
        shipping_fee_minor=0,
        free_shipping_from_minor=None,
        tax_rates=[],
        registered_at=record.placed_at,
    )
    try:
        check_value("merchant_id", merchant.merchant_id, MERCHANT_ID)
        require_current(merchant.currency)
        check_merchant(merchant)
    except InputError as error:
        raise RejectedError("merchant_not_possible", str(error)) from None
    return merchant
