"""Rehearsal: apply all events of an order with the domain's own functions before anything is booked; pure.

    plan = rehearse(record, merchant, allowance, now)

Belongs here: checks of an order as a whole, and the resulting plan. Does not belong here: the order's price
(`placing.py`), its events (`life.py`), running the commands (`booking.py`).

An order is booked wholly or rejected wholly, because the rehearsal finds first what the books would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from contracts.errors import InputError
from contracts.events.common import Value
from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import DEPOSIT_TAX_CATEGORY
from contracts.limits import JURISDICTION, OWED_TO, REFERENCE, SKU, SOURCE, TITLE
from contracts.money import CURRENCY_EXPONENTS
from oltp.commands.checking import check_value
from traffic.orders.amounts import minor_of, rates_of, shown
from traffic.orders.format import OrderRecord
from traffic.orders.life import Life, PaidAboveError
from traffic.orders.mapping import RejectedError
from traffic.orders.order_commands import Step, key_of
from traffic.orders.placing import placed_order

FUTURE = timedelta(days=1)
"""How far a time may be in the future: a wrong time zone shifts it by less than this."""


COUNTED = {
    "capture": "payments",
    "redeem": "payments",
    "refund": "refunds",
    "cancel": "cancellations",
    "fulfill": "fulfillments",
}
"""The name of the count by the first part of a step's name."""


def counts_of(steps: Iterable[str]) -> dict[str, int]:
    """Return the number of payments, refunds, cancellations and fulfillments among the steps with these names."""
    names = [COUNTED.get(step.partition("/")[0], "") for step in steps]
    return {name: names.count(name) for name in COUNTED.values()}


class Plan(Value, frozen=True, kw_only=True):
    """The steps that book an order, and its amounts in the books afterwards, in minor units."""

    record: OrderRecord
    steps: tuple[Step, ...]
    rates: tuple[TaxRate, ...]
    """The rates of the tax categories that the order needs."""
    sold_minor: int
    captured_minor: int
    refunded_minor: int
    unallocated_minor: int
    extras: tuple[str, ...]
    """SKUs of lines that the import adds to the file's lines."""
    absent: tuple[str, ...]
    """Names of steps that the order does not have. If one of them is booked, the books hold more than the file."""

    @property
    def keys(self) -> list[str]:
        """Return the idempotency keys of its steps."""
        return [key_of(self.record.order_number, step.name) for step in self.steps]

    @property
    def absent_keys(self) -> list[str]:
        """Return the idempotency keys of the steps that it does not have."""
        return [key_of(self.record.order_number, name) for name in self.absent]


def rehearse(record: OrderRecord, merchant: MerchantState, allowance: Decimal, now: datetime) -> Plan:
    """Return the plan of the order; RejectedError with the reason when the order cannot be booked as in the file.

    `merchant`: as registered, or as it would be registered. It may still lack the order's tax categories.
    """
    _check_whole(record, merchant, now)
    rates = {(rate.tax_category, rate.owed_to): rate for rate in rates_of(record.jurisdiction, [])}
    for line in record.lines:
        rates |= {(rate.tax_category, rate.owed_to): rate for rate in rates_of(record.jurisdiction, line.taxes)}
    deposit = TaxRate(jurisdiction=record.jurisdiction, tax_category=DEPOSIT_TAX_CATEGORY, rate_ppm=0)
    taxed = msgspec.structs.replace(merchant, tax_rates=[*rates.values(), deposit])
    # Without lines the whole captured amount is unallocated.
    unallocated_minor = 0 if record.lines else _captured_minor(record)
    while True:
        life = Life(placed_order(record, taxed, allowance, unallocated_minor), record)
        try:
            life.run(now + FUTURE)
        except PaidAboveError as above:
            if record.lines and record.total is None:
                raise RejectedError(
                    "paid_above_order",
                    f"{shown(above.amount_minor, record.currency)} more was captured than the lines come to; if that "
                    "is right, state the total of the order",
                ) from None
            unallocated_minor += above.amount_minor
            continue
        return Plan(
            record=record,
            steps=tuple(life.steps),
            rates=(*rates.values(), *([deposit] if unallocated_minor else [])),
            sold_minor=life.placed.stated_minor,
            captured_minor=life.captured_minor,
            refunded_minor=life.refunded_minor,
            unallocated_minor=unallocated_minor,
            extras=tuple(life.placed.extras),
            absent=tuple(_absent(record, {step.name for step in life.steps})),
        )


def _captured_minor(record: OrderRecord) -> int:
    captured = [payment.captured for payment in record.payments if payment.captured is not None]
    return sum(minor_of(amount, record.currency, "captured") for amount in captured)


def _absent(record: OrderRecord, present: set[str]) -> list[str]:
    """Return names of steps that this order does not have; for parts in a list, the name of the next one."""
    possible = ["rounding", f"fulfill/{len(record.fulfillments) + 1}", f"refund/{len(record.refunds) + 1}"]
    for place in range(1, len(record.payments) + 2):
        possible += [f"{step}/{place}" for step in ("authorize", "capture", "release", "card", "redeem")]
    possible += [f"cancel/{place}" for place in range(1, len(record.cancellations) + 2)]
    return [name for name in possible if name not in present]


def _check_whole(record: OrderRecord, merchant: MerchantState, now: datetime) -> None:
    if record.currency not in CURRENCY_EXPONENTS:
        raise RejectedError("currency_not_known", f"currency is '{record.currency}'")
    for name in ("currency", "jurisdiction"):
        stated, own = getattr(record, name), getattr(merchant, name)
        if stated != own:
            raise RejectedError(
                f"{name}_of_another_merchant",
                f"{name} is '{stated}', that of merchant {merchant.merchant_id} is '{own}'; such orders need a "
                "merchant_id of their own",
            )
    if record.placed_at > now + FUTURE:
        raise RejectedError("in_the_future", f"placed_at is {record.placed_at.isoformat()}")
    _check_names(record)
    payments = [payment.reference for payment in record.payments]
    refunds = [refund.reference for refund in record.refunds]
    twice = sorted({name for names in (payments, refunds) for name in names if names.count(name) > 1})
    if twice:
        raise RejectedError("reference_used_twice", f"{', '.join(twice)} names two payments, or two refunds")


def _check_names(record: OrderRecord) -> None:
    """Raise RejectedError for a name that the database would refuse."""
    names = [("sku", line.sku, SKU) for line in record.lines if line.sku]
    names += [("title", line.title, TITLE) for line in record.lines]
    names += [("reference", payment.reference, REFERENCE) for payment in record.payments]
    names += [("gift_card", payment.gift_card, REFERENCE) for payment in record.payments if payment.gift_card]
    names += [("jurisdiction", record.jurisdiction, JURISDICTION)]
    names += [("owed_to", tax.owed_to, OWED_TO) for line in record.lines for tax in line.taxes]
    names += [("method", payment.method, SOURCE) for payment in record.payments]
    try:
        for what, name, limit in names:
            check_value(what, name, limit)
    except InputError as error:
        raise RejectedError("beyond_a_limit", str(error)) from None
