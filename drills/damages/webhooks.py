"""Damages of the notes of what merchants are told: notes lost, forged, changed, withdrawn, skipped.

They are made with SQL, past the rules. The damaged endpoint is one of its own per merchant, which is disabled: nothing
is sent to it, whatever is noted. Belongs here: these damages and their required outcomes. Does not belong here:
endpoints that do not answer, and senders that are killed (`tests/integration/test_webhooks.py`, `tests/scenario/`).
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import Any

import psycopg

from contracts.verdicts import DifferenceClass as Class
from contracts.webhooks import EVENT_TYPES
from derived.webhooks.again import plan_replay, replay
from derived.webhooks.following import build
from drills.damages.place import Cell, Damage, Harm, Place, Target, harm
from drills.damages.read_models import GHOST
from repair.values import ActionKind

NAME = "webhooks"
WAITING_MAX = 1_000_000
LATER_CUTS = 3

_ENDPOINT = """
insert into webhooks.endpoints (
    endpoint_id, merchant_id, url, event_types, description, is_enabled, version, secret_number, created_at, changed_at
) values (%s, %s, 'https://damaged.invalid/', %s, 'of a damage', false, 1, 1, now(), now())
on conflict do nothing
"""
LOSE = "delete from webhooks.deliveries where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s"
FORGE = """
insert into webhooks.deliveries (
    endpoint_id, event_id, merchant_id, pod, epoch, cut, position, aggregate_type, aggregate_id, event_type,
    recorded_at, state, body, attempts, last_status, acknowledged_at
)
select endpoint_id, %(ghost)s, merchant_id, pod, epoch, cut, position, aggregate_type, aggregate_id, event_type,
       recorded_at, 'acknowledged', null, 1, 200, now()
from webhooks.deliveries where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
"""
LOSE_SKIPPED = """
with decided as (
    insert into webhooks.skips (
        endpoint_id, event_id, pod, cut, event_type, aggregate_type, aggregate_id, skipped_at, skipped_by,
        skipped_because
    )
    select endpoint_id, event_id, pod, cut, event_type, aggregate_type, aggregate_id, now(), 'a damage', 'a damage'
    from webhooks.deliveries where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
)
delete from webhooks.deliveries where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
"""
SKIP = """
update webhooks.deliveries set state = 'skipped', body = null, skipped_at = now(), skipped_because = 'a damage'
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
"""
CHANGE = """
update webhooks.deliveries set cut = cut + %(cuts)s
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
"""
WITHDRAW = """
update webhooks.deliveries set state = 'withdrawn', body = null
where endpoint_id = %(endpoint_id)s and event_id = %(event_id)s
"""
_OF_ORDER = """
select event_id from webhooks.deliveries
where endpoint_id = %s and aggregate_type = 'order' and aggregate_id = %s order by cut, position limit 1
"""


def of_note(statement: str) -> Damage:
    """Return the damage that does this to the first note of an order."""

    def do(place: Place) -> Harm:
        target = place.take("order")
        with psycopg.connect(place.settings.control_dsn, autocommit=True) as connection:
            endpoint_id = noted_endpoint(place, connection, target)
            rows = connection.execute(_OF_ORDER, (endpoint_id, target.aggregate_id)).fetchall()
            values: dict[str, Any] = {"endpoint_id": endpoint_id, "event_id": rows[0][0]}
            connection.execute(statement.encode(), {**values, "ghost": GHOST, "cuts": LATER_CUTS})
        return harm(target)

    return do


def noted_endpoint(place: Place, connection: psycopg.Connection[Any], target: Target) -> str:
    """Return an endpoint of the target's merchant for which everything of the pod is noted."""
    digest = hashlib.sha256(f"{place.pod}/{target.merchant_id}".encode()).hexdigest()
    endpoint_id = f"we_damaged_{digest[:12]}"
    if connection.execute(_ENDPOINT, (endpoint_id, target.merchant_id, list(EVENT_TYPES))).rowcount:
        # Where no worker follows the log yet, the notes begin at its end.
        with closing(build(place.settings)) as notes:
            notes.state(place.pod)
        with place.lake() as lake:
            planned = plan_replay(lake, place.settings.control_dsn, endpoint_id, {place.pod: 1})
            replay(lake, place.settings.control_dsn, planned, waiting_max=WAITING_MAX)
    return endpoint_id


def _cell(damage: str, statement: str, kind: Class) -> Cell:
    named = {f"lake_{NAME}": frozenset({kind})}
    return Cell(damage=damage, store=NAME, do=of_note(statement), named=named, actions=(ActionKind.REDELIVER,))


CELLS = {
    "webhooks": (
        _cell("note lost", LOSE, Class.MISSING),
        _cell("acknowledged note of an event that nobody has", FORGE, Class.EXTRA),
        _cell("note says another cut", CHANGE, Class.DIFFERENT),
        _cell("note withdrawn", WITHDRAW, Class.MISSING),
        _cell("note lost of a message that a person has skipped", LOSE_SKIPPED, Class.MISSING),
        _cell("note says that a person has skipped it", SKIP, Class.DIFFERENT),
    ),
}
