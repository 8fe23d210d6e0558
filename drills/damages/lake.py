"""Damages of the lake: events lost, duplicated, altered, forged or parked; positions moved.

Belongs here: these damages. Does not belong here: their required outcomes (`drills/damages/rounds.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC
from typing import Any

import msgspec

from contracts.events.envelope import ENVELOPE_COLUMNS
from derived.retention import prune_outboxes
from drills.damages.place import WHOLE, Damage, Harm, Place, Target, harm, until
from streams.lag import trim_log
from streams.logs import build_log

OF_TARGET = "pod = $pod and merchant_id = $merchant and aggregate_type = $kind and aggregate_id = $id"
NEWEST = f"""
    aggregate_version = (select max(aggregate_version) from lake.raw.events where {OF_TARGET}) and {OF_TARGET}
"""
FENCE = "lake.raw.fence_lake_{pod}"


def _change(place: Place, target: Target, *statements: str, **values: Any) -> None:
    of_target = {"pod": place.pod, "merchant": target.merchant_id, "kind": target.kind, "id": target.aggregate_id}
    place.change_lake(*statements, **of_target, **values)


def _alter_state(place: Place, target: Target, alter: Callable[[dict[str, Any]], object]) -> Harm:
    """Change the state in the newest event of an aggregate."""
    with place.lake() as lake:
        bound = {"pod": place.pod, "merchant": target.merchant_id, "kind": target.kind, "id": target.aggregate_id}
        ((text,),) = lake.execute(f"select payload from lake.raw.events where {NEWEST}", bound).fetchall()
    payload = json.loads(text)
    alter(payload["state"])
    text = json.dumps(payload, separators=(",", ":"))
    _change(place, target, f"update lake.raw.events set payload = $text where {NEWEST}", text=text)
    return harm(target)


def _one(kind: str, statement: str, *traits: str) -> Damage:
    """Return a damage to events of one aggregate."""

    def do(place: Place) -> Harm:
        target = place.take(kind, *traits)
        _change(place, target, statement)
        return harm(target)

    return do


def _in_state(kind: str, alter: Callable[[dict[str, Any]], object], *traits: str) -> Damage:
    """Return a damage to the state in the newest event of one aggregate."""
    return lambda place: _alter_state(place, place.take(kind, *traits), alter)


lose_first_event = _one("order", f"delete from lake.raw.events where {OF_TARGET} and aggregate_version = 1", "changed")
"""Every copy of the order's newest state stays right."""
lose_newest_event = _one("payment", f"delete from lake.raw.events where {NEWEST}", "captured")
lose_card_event = _one("gift_card", f"delete from lake.raw.events where {NEWEST}", "spent")
lose_all_events = _one("order", f"delete from lake.raw.events where {OF_TARGET}", "customer")
double_event = _one("order", f"insert into lake.raw.events select * from lake.raw.events where {NEWEST}")
double_event_altered = _one(
    "payment",
    f"""insert into lake.raw.events by name
        select * replace (replace(payload, '"captured_minor":', '"captured_minor":1') as payload)
        from lake.raw.events where {NEWEST}""",
    "captured",
)
change_currency = _one(
    "payment",
    f"""update lake.raw.events
        set payload = regexp_replace(payload, '"currency":"[A-Z]{{3}}"', '"currency":"JPY"') where {NEWEST}""",
    "captured",
)
change_old_event = _one(
    "order",
    f"""update lake.raw.events set payload = replace(payload, '"total_minor":', '"total_minor":1')
        where {OF_TARGET} and aggregate_version = 1""",
    "changed",
)
"""No newest state shows it."""
change_envelope = _one(
    "order",
    f"""update lake.raw.events set event_type = 'order_renamed', occurred_at = occurred_at - interval 1 day
        where {NEWEST}""",
)
"""The payload stays."""
forge_event = _one(
    "order",
    f"""insert into lake.raw.events by name select * replace (
            uuid()::varchar as event_id, aggregate_version + 50 as aggregate_version,
            replace(payload, '"version":', '"version":9') as payload)
        from lake.raw.events where {NEWEST}""",
)
"""A version of an order that OLTP never had."""


def _add(column: str, difference: int) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update({column: state[column] + difference})


change_amount = _in_state("payment", _add("captured_minor", 1), "captured")
change_card = _in_state("gift_card", _add("redeemed_minor", 1), "spent")


def change_two_amounts(place: Place) -> Harm:
    """Add one minor unit to a payment and subtract one from another, so that every total stays equal."""
    one, other = place.take("payment", "captured"), place.take("payment", "captured")
    _alter_state(place, one, _add("captured_minor", 1))
    _alter_state(place, other, _add("captured_minor", -1))
    return harm(one, other)


AMOUNTS_MINOR = frozenset(
    {"lines_minor", "discount_minor", "shipping_minor", "amount_minor", "taxable_minor", "tax_minor", "total_minor"}
)


def _halve(state: dict[str, Any]) -> None:
    for amounts in (state, *state["lines"]):
        amounts.update({name: amounts[name] // 2 for name in AMOUNTS_MINOR & amounts.keys()})


def _swap(state: dict[str, Any]) -> None:
    one, other = state["line_taxes"]
    one["tax_minor"], other["tax_minor"] = other["tax_minor"], one["tax_minor"]


halve_order = _in_state("order", _halve, "captured")
lose_one_tax = _in_state("order", lambda state: state["line_taxes"].pop(), "several taxes")
swap_taxes = _in_state("order", _swap, "several taxes")
"""The sum of the two taxes of a line stays equal."""


def park_event(place: Place) -> Harm:
    """Park an order's newest event with a time of an hour ago, as if it could not be applied."""
    target = place.take("order")
    bound = {"pod": place.pod, "merchant": target.merchant_id, "kind": target.kind, "id": target.aggregate_id}
    with place.lake() as lake:
        (row,) = lake.execute(f"select * from lake.raw.events where {NEWEST}", bound).to_arrow_table().to_pylist()
    event = {name: row[name] for name in ENVELOPE_COLUMNS}
    event |= {name: event[name].astimezone(UTC) for name in ("occurred_at", "recorded_at")}
    _change(
        place,
        target,
        """insert into lake.raw.parked values
           ($pod, $key, $event_id, $cut, $order, $event, 'set aside by hand', now() - interval 1 hour)""",
        "delete from lake.raw.events where pod = $pod and event_id = $event_id",
        key=target.key,
        event_id=row["event_id"],
        cut=row["cut"],
        order=row["position"],
        event=msgspec.json.encode(event).decode(),
    )
    return harm(target)


def lake_back(place: Place) -> Harm:
    """Move the lake's position back by three cuts."""
    fence = FENCE.format(pod=place.pod)
    place.change_lake(f"update {fence} set cut = greatest(cut - 3, 0), chunk = 0")
    return WHOLE


def lake_behind_everything(place: Place) -> Harm:
    """Reset the lake with its events to its first cut, after outbox and log have deleted the later cuts.

    Restoring an old copy of the lake's catalog gives the same state. Only the backup has the later cuts.
    """
    while place.lake_cut() < 3:
        # The log keeps the newest cut. If this were the second cut, the lake would continue from the first without
        # damage.
        place.place_orders()
    cut = place.lake_cut()
    prune_outboxes(place.settings)
    with closing(build_log(place.settings)) as log:
        # The log trims only what every copy has reported as applied.
        until(lambda: all(one.applied_cut >= cut for one in log.progress(place.pod)), f"cut {cut} in every copy")
        trim_log(log, place.pod)
    place.change_lake(
        "delete from lake.raw.events where pod = $pod and cut > 1",
        "delete from lake.raw.cuts where pod = $pod and cut > 1",
        f"update {FENCE.format(pod=place.pod)} set cut = 1, chunk = 0",
        pod=place.pod,
    )
    return WHOLE


def lake_forward(place: Place) -> Harm:
    """Move the lake's position past events that it has not applied.

    We cannot move the position before the workers apply these cuts. So the same commit deletes what they have applied:
    the lake is then exactly as if its position had been moved before.
    """
    before = place.lake_cut()
    place.place_orders()
    place.change_lake(
        "delete from lake.raw.events where pod = $pod and cut > $before",
        f"update {FENCE.format(pod=place.pod)} set chunk = 0",
        pod=place.pod,
        before=before,
    )
    return WHOLE


def lake_beyond(place: Place) -> Harm:
    """Delete an event and move the lake's position past the newest cut, where the lake would wait forever."""
    target = place.take("order")
    _change(
        place,
        target,
        f"delete from lake.raw.events where {NEWEST}",
        f"update {FENCE.format(pod=place.pod)} set cut = cut + 1000000, chunk = 0",
    )
    return WHOLE
