"""Damages of the warehouse: rows of its stored tables missing, extra, stale or changed; journal entries missing.

Belongs here: these damages. Does not belong here: their required outcomes (`drills/damages/rounds.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.events import STATE_TYPES
from drills.damages.place import WHOLE, Damage, Harm, Place, Target, harm

ID_COLUMNS = {name: state.ID_FIELD for name, state in STATE_TYPES.items()}
GHOST = "01970000-0000-7000-8000-000000000000"


def _history(kind: str) -> str:
    return f"lake.intermediate.int_{kind}s_history"


def _of(kind: str) -> str:
    return f"pod = $pod and {ID_COLUMNS[kind]} = $id"


def _standing(kind: str) -> str:
    return f"{_of(kind)} and valid_to_cut is null"


def _change(place: Place, target: Target, *statements: str, **values: Any) -> Harm:
    place.change_lake(*statements, pod=place.pod, id=target.aggregate_id, **values)
    return harm(target)


def _one(kind: str, traits: Sequence[str], *statements: str) -> Damage:
    """Return a damage to the history of one aggregate."""
    return lambda place: _change(place, place.take(kind, *traits), *statements)


def lose_row(kind: str, *traits: str) -> Damage:
    """Return the damage that deletes every version of one aggregate from its history."""
    return _one(kind, traits, f"delete from {_history(kind)} where {_of(kind)}")


def change_row(kind: str, change: str, *traits: str) -> Damage:
    """Return the damage that changes the current version of one aggregate."""
    return _one(kind, traits, f"update {_history(kind)} set {change} where {_standing(kind)}")


def change_earlier_row(kind: str, change: str, *traits: str) -> Damage:
    """Return the damage that changes the first version of one aggregate, which no mart shows any more."""
    where = f"{_of(kind)} and version = 1 and valid_to_cut is not null"
    return _one(kind, traits, f"update {_history(kind)} set {change} where {where}")


def age_row(kind: str, *traits: str) -> Damage:
    """Return the damage that deletes the current version and makes the previous version current again."""
    history = _history(kind)
    return _one(
        kind,
        traits,
        f"delete from {history} where {_standing(kind)}",
        f"""update {history} set valid_to_cut = null where {_of(kind)} and version = (
                select max(version) from {history} where {_of(kind)} and valid_to_cut is not null)""",
    )


def double_row(kind: str, *traits: str) -> Damage:
    """Return the damage that inserts the current version a second time."""
    return _one(kind, traits, f"insert into {_history(kind)} select * from {_history(kind)} where {_standing(kind)}")


def add_row(kind: str, *traits: str) -> Damage:
    """Return the damage of an aggregate without an event: a copy of another aggregate with a new id."""

    def do(place: Place) -> Harm:
        like = place.take(kind, *traits)
        _change(
            place,
            like,
            f"""insert into {_history(kind)} by name
                select * replace ('{GHOST}' as {ID_COLUMNS[kind]}, '{GHOST}' as event_id)
                from {_history(kind)} where {_standing(kind)}""",
        )
        return harm(Target(kind=kind, merchant_id=like.merchant_id, aggregate_id=GHOST, traits=frozenset()))

    return do


def change_two(kind: str, column: str, *traits: str) -> Damage:
    """Return two errors that cancel each other: plus 1 in one current version, minus 1 in another."""

    def do(place: Place) -> Harm:
        one, other = place.take(kind, *traits), place.take(kind, *traits)
        for target, difference in ((one, 1), (other, -1)):
            change = f"update {_history(kind)} set {column} = {column} + $by where {_standing(kind)}"
            _change(place, target, change, by=difference)
        return harm(one, other)

    return do


JOURNAL = "lake.intermediate.int_journal_entries"
OF_EVENT = f"""
    pod = $pod and event_id = (select max(event_id) from {JOURNAL} where pod = $pod and aggregate_id = $id)
"""


def _in_journal(statement: str, kind: str = "payment", *traits: str) -> Damage:
    return _one(kind, traits, *(part.format(journal=JOURNAL, event=OF_EVENT) for part in statement.split(";")))


lose_entry = _in_journal("delete from {journal} where {event} and account = 'cash'", "payment", "captured")
lose_entries = _in_journal("delete from {journal} where {event}", "payment", "captured")
"""Deletes all entries of an event: the remaining entries still sum to zero."""
double_entry = _in_journal(
    "insert into {journal} select * from {journal} where {event} and account = 'cash'", "payment", "captured"
)
redate_entries = _in_journal(
    "update {journal} set booked_at = date_trunc('day', booked_at) where {event}", "payment", "captured"
)
"""Books an event at the beginning of its day: the figures of every day stay right."""
change_entry = _in_journal(
    "update {journal} set amount_micro = amount_micro + 10000 where {event} and account = 'cash'", "payment", "captured"
)
change_two_entries = _in_journal(
    """update {journal} set amount_micro = amount_micro + 10000 where {event} and account = 'cash';
       update {journal} set amount_micro = amount_micro - 10000 where {event} and account = 'clearing'""",
    "payment",
    "captured",
)
"""The event's entries still sum to zero."""

change_liability = _in_journal(
    "update {journal} set amount_micro = amount_micro + 10000 where {event} and account = 'gift_card_liability'",
    "gift_card",
)
"""More or less is owed on a gift card than was issued."""

halve_entries = _in_journal("update {journal} set amount_micro = amount_micro // 2 where {event}", "order", "captured")
"""Changes all entries of an order's event: they still sum to zero, up to half a micro-unit."""

halve_order = change_row(
    "order",
    """lines_minor = lines_minor // 2, discount_minor = discount_minor // 2, shipping_minor = shipping_minor // 2,
       tax_minor = tax_minor // 2, total_minor = total_minor // 2""",
    "captured",
)

TAX = "lake.intermediate.int_tax_movements"
OF_LINE = f"""
    pod = $pod and movement = 'charged' and source_line_id = (
        select max(source_line_id) from {TAX} where pod = $pod and order_id = $id and movement = 'charged')
"""


def _in_tax(statement: str, *traits: str) -> Damage:
    return _one("order", ("uncancelled", *traits), statement.format(tax=TAX, line=OF_LINE))


lose_tax = _in_tax("delete from {tax} where {line}")
change_tax = _in_tax("update {tax} set tax_minor = tax_minor + 1 where {line}")
lose_one_tax = _in_tax("delete from {tax} where {line} and jurisdiction = 'CA-QST'", "several taxes")
swap_taxes = _in_tax(
    "update {tax} set tax_minor = (select sum(tax_minor) from {tax} where {line}) - tax_minor where {line}",
    "several taxes",
)
"""Exchanges the amounts of two taxes: their sum stays equal."""


def truncate_payments(place: Place) -> Harm:
    """Delete all payments of a pod from the warehouse."""
    place.change_lake("delete from lake.intermediate.int_payments_history where pod = $pod", pod=place.pod)
    return WHOLE
