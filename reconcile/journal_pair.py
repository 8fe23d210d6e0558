"""lake <-> warehouse: every journal entry, from the versions of what it books.

An entry is what a version puts on an account, less what the version before put there. Belongs here: these amounts as
SQL of the comparison's own. Does not belong here: which versions there are (`reconcile/versions.py`), the accounts'
totals against operations (`reconcile/identity_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.events.order import DEPOSIT_TAX_CATEGORY
from contracts.money import micro_per_minor_sql
from reconcile.pair import PodRun
from reconcile.shapes import HUGEINT, TIMESTAMP, Column, Shape, names_aggregate, number, quoted, text
from reconcile.stored_pairs import STORED, compare_stored, stored_pair, write_booked
from reconcile.versions import VERSIONS

DAY = "strftime({} at time zone 'UTC', '%Y-%m-%d')"
BOOKED = (Column(name="booked_at", type=TIMESTAMP), Column(name="recorded_at", type=TIMESTAMP))
NO_ORDER = "null::VARCHAR"


def _sum(amount: str, where: str = "true") -> str:
    """Return the sum of an expression over the lines of a version."""
    return f"coalesce(list_sum(list_transform(lines, lambda one: case when {where} then {amount} else 0 end)), 0)"


IS_DEPOSIT = f"one.tax_category = '{DEPOSIT_TAX_CATEGORY}'"
EARNED = (
    "one.amount_minor - case when one.is_tax_inclusive then one.tax_minor else 0 end"
    " - one.cancelled_minor + one.cancelled_tax_minor"
)
"""What a line earns without the tax in it; of a deposit it is owed."""


def _earned(where: str) -> tuple[str, str]:
    return f"-{_sum(EARNED, where)}", f"-{_sum('one.rounding_micro', where)}"


@dataclass(frozen=True, kw_only=True)
class Booking:
    """How versions of an aggregate type are booked: accounts in the order of their lines, with minor and micro-units.

    Amounts are expressions over a version; debits are positive.
    """

    accounts: Mapping[str, tuple[str, str]]
    booked_at: str = "occurred_at"
    order_id: str = "order_id"


PAID = "(captured_minor - returned_minor)"
BORNE = "charged_back_minor + dispute_fee_minor + return_fee_minor"
MOVED = "case when status = 'completed' then amount_minor else 0 end"
MOVED_TAX = "case when status = 'completed' then tax_minor else 0 end"
MOVED_DEPOSIT = f"case when status = 'completed' then {_sum('one.amount_minor - one.tax_minor', IS_DEPOSIT)} else 0 end"
BY_CARD = "gift_card_id is not null"

BOOKINGS: Mapping[str, Booking] = {
    "order": Booking(
        accounts={
            "clearing": (_sum("one.total_minor - one.cancelled_minor"), "0"),
            "discounts": (_sum("one.discount_minor"), "0"),
            "sales": _earned(f"one.kind <> 'shipping' and {IS_DEPOSIT} is not true"),
            "shipping": _earned(f"one.kind = 'shipping' and {IS_DEPOSIT} is not true"),
            "tax_payable": (_sum("one.cancelled_tax_minor - one.tax_minor"), "0"),
            "rounding": ("0", _sum("one.rounding_micro")),
            "customer_deposits": _earned(IS_DEPOSIT),
        },
        booked_at="case when version = 1 then placed_at else occurred_at end",
    ),
    "payment": Booking(
        accounts={
            "cash": (f"case when {BY_CARD} then 0 else {PAID} end", "0"),
            "clearing": (f"-{PAID}", "0"),
            "merchant_share": (f"{PAID} - ({BORNE})", "0"),
            "merchant_payable": (f"-{PAID}", "0"),
            "gift_card_liability": (f"case when {BY_CARD} then {PAID} else 0 end", "0"),
            "dispute_cash": (f"-({BORNE}) - disputed_minor", "0"),
            "dispute_holds": ("disputed_minor", "0"),
            "chargebacks": ("charged_back_minor", "0"),
            "dispute_fees": ("dispute_fee_minor + return_fee_minor", "0"),
            "merchant_disputes": (BORNE, "0"),
            "unallocated_cash": ("unallocated_minor", "0"),
            "customer_deposits": ("-unallocated_minor", "0"),
        },
    ),
    "refund": Booking(
        accounts={
            "refunds": (f"{MOVED} - {MOVED_TAX} - {MOVED_DEPOSIT}", "0"),
            "tax_payable": (MOVED_TAX, "0"),
            "cash": (f"case when {BY_CARD} then 0 else -({MOVED}) end", "0"),
            "merchant_payable": (MOVED, "0"),
            "merchant_share": (f"-({MOVED})", "0"),
            "customer_deposits": (MOVED_DEPOSIT, "0"),
            "gift_card_liability": (f"case when {BY_CARD} then -({MOVED}) else 0 end", "0"),
        },
        booked_at="coalesce(failed_at, completed_at, occurred_at)",
    ),
    "adjustment": Booking(
        accounts={
            "clearing": ("amount_minor", "0"),
            "adjustments": ("tax_minor - amount_minor", "-rounding_micro"),
            "rounding": ("0", "rounding_micro"),
            "merchant_share": ("amount_minor", "0"),
            "merchant_payable": ("-amount_minor", "0"),
            "tax_payable": ("-tax_minor", "0"),
        },
        booked_at="adjusted_at",
        order_id=NO_ORDER,
    ),
    "gift_card": Booking(
        accounts={
            "cash": ("case when funding = 'sold' then issued_minor else 0 end", "0"),
            "gift_card_grants": ("case when funding = 'granted' then issued_minor else 0 end", "0"),
            "gift_card_liability": ("expired_minor - issued_minor", "0"),
            "gift_card_breakage": ("-expired_minor", "0"),
        },
        order_id=NO_ORDER,
    ),
}
"""Aggregate type -> how it is booked."""

JOURNAL = Shape(
    name="int_journal_entries",
    key=("event_id", "line_number"),
    columns=(
        *text("merchant_id", "currency", "account", "entry_date", "event_type", "aggregate_type", "aggregate_id"),
        *text("order_id"),
        *number("cut", "amount_micro", "version"),
        *BOOKED,
    ),
    day="entry_date",
    currency="currency",
    aggregate=names_aggregate,
)

ENTRIES = f"""
with balance as (
    select pod, valid_from_cut as cut, event_id, event_type, aggregate_id, version, directory_epoch, merchant_id,
        currency, recorded_at, {{booked_at}} as booked_at, {{order_id}} as order_id,
        unnest([{{balances}}]) as one
    from {VERSIONS}
),
entry as (
    select *, {micro_per_minor_sql("currency", HUGEINT)} * one.minor + one.micro as standing_micro,
        standing_micro - coalesce(lag(standing_micro) over earlier, 0) as amount_micro
    from balance
    window earlier as (
        partition by merchant_id, aggregate_id, one.account order by directory_epoch, version
    )
)
select event_id, one.line_number, merchant_id, currency, one.account, {DAY.format("booked_at")} as entry_date,
    event_type, '{{aggregate_type}}' as aggregate_type, aggregate_id, order_id, cut,
    amount_micro::BIGINT as amount_micro, version, booked_at, recorded_at
from entry where pod = $pod and amount_micro is distinct from 0
"""
STORED_ENTRIES = """
select * replace (line_number::VARCHAR as line_number, strftime(entry_date, '%Y-%m-%d') as entry_date)
from {rows}
"""


def _entries(aggregate_type: str, booking: Booking) -> str:
    balances = (
        f"struct_pack(line_number := '{place}', account := '{account}', "
        f"minor := ({minor})::HUGEINT, micro := ({micro})::HUGEINT)"
        for place, (account, (minor, micro)) in enumerate(booking.accounts.items(), start=1)
    )
    return ENTRIES.format(
        balances=", ".join(balances),
        booked_at=booking.booked_at,
        order_id=booking.order_id,
        aggregate_type=aggregate_type,
    )


def _write(run: PodRun) -> None:
    write_booked(run, {kind: _entries(kind, booking) for kind, booking in BOOKINGS.items()})
    rows = run.in_scope("(select * from lake.intermediate.int_journal_entries where pod = $pod)", "aggregate_id")
    stored = STORED_ENTRIES.format(rows=rows)
    names = ", ".join(map(quoted, JOURNAL.names))
    run.connection.execute(f"create or replace table {STORED} as select {names} from ({stored})", {"pod": run.pod})


JOURNAL_ENTRIES_PAIR = stored_pair(
    "journal_entries",
    JOURNAL,
    "Every entry of the journal: account, amount, day and order of what each version of an aggregate books.",
    lambda run: compare_stored(run, JOURNAL, _write),
    whose="aggregate_id",
)
