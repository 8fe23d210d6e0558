"""The outbox: the table through which every event leaves the pod.

Belongs here: turning a change of an aggregate into a row that commits in the same transaction. Does not belong here:
reading the rows (`streams/cuts.py`, `streams/relay.py`).

The rule that keeps every aggregate's events in order: **lock the root's row, change it, and only then publish.** The
database enforces the rule: it refuses an event before its root has that version, and a second event of the same
version. At commit every changed root and child must have an event of the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from contracts.errors import InputError
from contracts.events.common import AggregateState, encode_payload
from contracts.limits import EVENT_BYTES_MAX, NEW_EVENT_BYTES_MAX
from oltp.transaction import CommandTransaction

INSERT = """
insert into oltp.outbox (
    event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version, payload,
    occurred_at, causation_id, correlation_id, traceparent, directory_epoch
)
select event.*, %s, %s::uuid, %s::uuid, %s, %s
from json_to_recordset(%s::json) as event (
    event_id uuid, merchant_id text, aggregate_type text, aggregate_id text, aggregate_version bigint, event_type text,
    schema_version integer, payload json
)
"""
"""The last parameter is one JSON array of events. The type json keeps the payload's text, byte for byte."""

_INSERT_KEPT = """
insert into oltp.outbox (
    event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version, payload,
    occurred_at, causation_id, correlation_id, traceparent, directory_epoch
)
select event.*
from json_to_recordset(%s::json) as event (
    event_id uuid, merchant_id text, aggregate_type text, aggregate_id text, aggregate_version bigint, event_type text,
    schema_version integer, payload json, occurred_at timestamptz, causation_id uuid, correlation_id uuid,
    traceparent text, directory_epoch bigint
)
"""
"""The same for events of several commands; each event carries the metadata of its command."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One step of one aggregate; `before` is None for a new aggregate."""

    before: AggregateState | None
    after: AggregateState
    event_type: StrEnum
    cause: str = ""
    """The reason for an event without a business step (a restatement); else ""."""


def _payload(change: Change) -> bytes:
    """Return the event's payload as JSON; InputError when it is larger than the limit.

    The limit of a first event is lower, so that every accepted aggregate leaves room for its later changes. A
    restatement has no limit, because its state is stored already.
    """
    payload = encode_payload(change.before, change.after, change.cause).encode()
    most = NEW_EVENT_BYTES_MAX if change.before is None else EVENT_BYTES_MAX
    if len(payload) > most and not change.cause:
        name = change.after.AGGREGATE_TYPE.replace("_", " ")
        raise InputError(f"The {name} would be an event of {len(payload):,} bytes; it may have at most {most:,}.")
    return payload


def publish(tx: CommandTransaction, before: AggregateState | None, after: AggregateState, event_type: StrEnum) -> None:
    """Insert one event; the root row must have `after.version` already."""
    publish_all(tx, [Change(before=before, after=after, event_type=event_type)])


def publish_all(tx: CommandTransaction, changes: Sequence[Change]) -> None:
    """Insert the events of several changes with one statement, in the order given."""
    if changes:
        tx.query(INSERT, insert_parameters(tx, changes))


def insert_parameters(tx: CommandTransaction, changes: Sequence[Change]) -> list[Any]:
    """Return the parameters of INSERT for the events of several changes."""
    events = msgspec.json.encode([_event(tx, change) for change in changes]).decode()
    return [tx.occurred_at, tx.causation_id, tx.correlation_id, tx.traceparent, tx.directory_epoch, events]


def publish_kept(tx: CommandTransaction, changes: Sequence[tuple[CommandTransaction, Change]]) -> None:
    """Insert the events of a batch with one statement, in the order given; each change comes with its command."""
    events = [
        {
            **_event(command, change),
            "occurred_at": command.occurred_at,
            "causation_id": command.causation_id,
            "correlation_id": command.correlation_id,
            "traceparent": command.traceparent,
            "directory_epoch": command.directory_epoch,
        }
        for command, change in changes
    ]
    if events:
        tx.query(_INSERT_KEPT, [msgspec.json.encode(events).decode()])


def _event(tx: CommandTransaction, change: Change) -> dict[str, Any]:
    return {
        "event_id": tx.new_id(),
        "merchant_id": change.after.merchant_id,
        "aggregate_type": change.after.AGGREGATE_TYPE,
        "aggregate_id": change.after.aggregate_id,
        "aggregate_version": change.after.version,
        "event_type": str(change.event_type),
        "schema_version": change.after.SCHEMA_VERSION,
        "payload": msgspec.Raw(_payload(change)),
    }
