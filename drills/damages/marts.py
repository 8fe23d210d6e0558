"""The cells of the warehouse in the matrix of damages: every stored table, by the marts that read it.

Belongs here: these cells. Does not belong here: the damages (`warehouse.py`), the other stores (`rounds.py`).
"""

from __future__ import annotations

from dataclasses import replace

from contracts.verdicts import DifferenceClass as Class
from drills.damages import warehouse
from drills.damages.place import Cell, Damage, names
from repair.values import ActionKind as Act

WAREHOUSE = "warehouse"
BUILD = (Act.BUILD,)


def _in_warehouse(damage: str, do: Damage, **found: Class | tuple[Class, ...]) -> Cell:
    return Cell(damage=damage, store=WAREHOUSE, do=do, named=names(**found), actions=BUILD)


def _in_mart(damage: str, do: Damage, pair: str, kind: Class, *also: Class) -> Cell:
    name = pair if pair == "journal_identities" else f"operational_finance.{pair}"
    return replace(_in_warehouse(damage, do, **{name: kind}), may_also_be=frozenset(also))


MART_CELLS = (
    _in_mart("order missing", warehouse.lose_row("order"), "orders", Class.MISSING),
    _in_mart("order extra", warehouse.add_row("order"), "orders", Class.EXTRA),
    # The order was shipped, so its lines, which have no version column, differ in the shipped quantity but not in
    # amounts.
    _in_mart(
        "order stale", warehouse.age_row("order", "changed", "uncancelled"), "orders", Class.STALE, Class.DIFFERENT
    ),
    _in_mart("order twice", warehouse.double_row("order"), "orders", Class.DUPLICATE),
    _in_mart(
        "payment changed by one minor unit",
        warehouse.change_row("payment", "captured_minor = captured_minor + 1"),
        "payments",
        Class.AMOUNT,
    ),
    _in_mart(
        "payment in a wrong currency",
        warehouse.change_row("payment", "currency = 'JPY'", "captured"),
        "payments",
        Class.CURRENCY,
    ),
    _in_mart(
        "two payments wrong, sums right",
        warehouse.change_two("payment", "captured_minor", "captured"),
        "payments",
        Class.AMOUNT,
    ),
    _in_warehouse(
        "earlier version of a payment changed by one minor unit",
        warehouse.change_earlier_row("payment", "authorized_minor = authorized_minor + 1", "captured"),
        lake_warehouse__payments_history=Class.AMOUNT,
    ),
    _in_mart("captured order halved", warehouse.halve_order, "orders", Class.AMOUNT),
    _in_mart("refund missing", warehouse.lose_row("refund", "completed"), "refunds", Class.MISSING),
    _in_mart(
        "reservation changed",
        warehouse.change_row("reservation", "status = 'lost'"),
        "reservations",
        Class.DIFFERENT,
    ),
    _in_mart("fulfillment missing", warehouse.lose_row("fulfillment"), "fulfillments", Class.MISSING),
    _in_mart(
        "stock movement changed by one",
        warehouse.change_row("stock_movement", "quantity = quantity + 1"),
        "inventory",
        Class.DIFFERENT,
    ),
    _in_mart("gift card missing", warehouse.lose_row("gift_card"), "gift_cards", Class.MISSING),
    _in_mart(
        "gift card changed by one minor unit",
        warehouse.change_row("gift_card", "balance_minor = balance_minor + 1"),
        "gift_cards",
        Class.AMOUNT,
    ),
    _in_mart("adjustment missing", warehouse.lose_row("adjustment"), "adjustments", Class.MISSING),
    _in_mart(
        "customer's entitlement changed",
        warehouse.change_row("customer_entitlement", "effective_level = effective_level + 1"),
        "entitlements",
        Class.DIFFERENT,
    ),
    _in_mart(
        "merchant's entitlement missing", warehouse.lose_row("merchant_entitlement"), "entitlements", Class.MISSING
    ),
    _in_mart("tax movement missing", warehouse.lose_tax, "tax", Class.MISSING),
    _in_mart("tax changed by one minor unit", warehouse.change_tax, "tax", Class.TAX),
    _in_mart("one of a line's taxes missing", warehouse.lose_one_tax, "tax", Class.MISSING),
    _in_mart("two taxes of a line swapped", warehouse.swap_taxes, "tax", Class.TAX),
    _in_warehouse("journal entry deleted", warehouse.lose_entry, journal_identities=(Class.AMOUNT, Class.IDENTITY)),
    _in_warehouse("journal entry twice", warehouse.double_entry, journal_identities=(Class.AMOUNT, Class.IDENTITY)),
    _in_warehouse(
        "journal entry changed by one minor unit",
        warehouse.change_entry,
        journal_identities=(Class.AMOUNT, Class.IDENTITY),
    ),
    _in_warehouse(
        "journal entries of an event booked at another time of their day",
        warehouse.redate_entries,
        lake_warehouse__journal_entries=Class.DIFFERENT,
    ),
    _in_mart(
        "what is owed on a gift card changed by one minor unit in the journal",
        warehouse.change_liability,
        "journal_identities",
        Class.AMOUNT,
        Class.IDENTITY,
    ),
    _in_mart(
        "journal entries of a captured order halved",
        warehouse.halve_entries,
        "journal_identities",
        Class.AMOUNT,
        Class.IDENTITY,
    ),
    _in_mart("all journal entries of an event deleted", warehouse.lose_entries, "journal_identities", Class.MISSING),
    _in_mart(
        "two journal entries wrong, sum still zero",
        warehouse.change_two_entries,
        "journal_identities",
        Class.AMOUNT,
    ),
)
EMPTIED = _in_mart("payments emptied", warehouse.truncate_payments, "payments", Class.MISSING)
