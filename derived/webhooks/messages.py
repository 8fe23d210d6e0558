"""What a merchant is told of an event: a stable public form, which does not change when an event's own form does.

    {"format": 1, "id": "...", "type": "order.placed", "timestamp": "...", "merchant_id": "...",
     "subject": {"type": "order", "id": "...", "version": 1}, "changed": [...], "data": {...}}

`data` is the subject's state after the event: the fields named here, amounts in minor units beside their currency. A
later format adds fields; it takes none away and gives none another meaning.

Belongs here: that form; pure. Does not belong here: who is told (`derived/webhooks/following.py`), signing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from contracts.events.upcasting import UnreadableEventError, newest_payload
from contracts.webhooks import TOLD_AGGREGATES, public_type

FORMAT = 1

Fields = Mapping[str, "Fields | None"]
"""Field -> None, or for a list of parts the fields of each part."""


def _fields(text: str, **parts: str) -> Fields:
    return {**dict.fromkeys(text.split()), **{name: dict.fromkeys(inner.split()) for name, inner in parts.items()}}


FIELDS: Mapping[str, Fields] = {
    "order": _fields(
        "order_id order_number customer_id currency status source placed_at lines_minor shipping_minor discount_minor "
        "added_tax_minor tax_minor total_minor cancelled_minor cancelled_tax_minor",
        lines="order_line_id line_number kind variant_id sku title quantity unit_price_micro amount_minor "
        "discount_minor is_tax_inclusive tax_minor total_minor cancelled_quantity cancelled_minor fulfilled_quantity "
        "withdrawn_quantity",
        discounts="code amount_minor line_number",
    ),
    "payment": _fields(
        "payment_id order_id customer_id currency status authorized_minor captured_minor refunded_minor released_minor "
        "authorized_at gift_card_id method expires_at failure_reason returned_minor unallocated_minor",
        captures="payment_capture_id amount_minor captured_at",
        movements="payment_movement_id kind amount_minor fee_minor reason moved_at",
    ),
    "refund": _fields(
        "refund_id order_id payment_id customer_id currency status reason external_reference amount_minor tax_minor "
        "failure_reason requested_at completed_at failed_at gift_card_id",
        lines="refund_line_id order_line_id quantity amount_minor tax_minor is_restocked",
    ),
    "fulfillment": _fields(
        "fulfillment_id order_id location_id tracking_number shipped_at",
        lines="fulfillment_line_id order_line_id quantity",
    ),
}
"""Aggregate type -> what merchants see of its state."""


class ToldEvent(NamedTuple):
    """What a message is made of; the names are those of an event's columns."""

    event_id: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    aggregate_version: int
    event_type: str
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    position: int
    payload: str


def is_told(event: ToldEvent) -> bool:
    """Return whether merchants can be told of an event."""
    return event.aggregate_type in TOLD_AGGREGATES


def body_of(event: ToldEvent) -> bytes:
    """Return the message about an event. Of one that cannot be read it says no more than that it happened."""
    changed, state = _read(event)
    message = {
        "format": FORMAT,
        "id": event.event_id,
        "type": public_type(event.event_type),
        # In UTC, so that a message is the same text whoever makes it.
        "timestamp": event.occurred_at.astimezone(UTC),
        "merchant_id": event.merchant_id,
        "subject": {"type": event.aggregate_type, "id": event.aggregate_id, "version": event.aggregate_version},
        "changed": changed,
        "data": state,
    }
    return msgspec.json.encode(message)


def _read(event: ToldEvent) -> tuple[list[str], dict[str, Any] | None]:
    """Return (the public fields that changed, the public state); ([], None) when the payload cannot be read."""
    fields = FIELDS[event.aggregate_type]
    try:
        payload = json.loads(newest_payload(event.aggregate_type, event.schema_version, event.payload))
        state, changed = payload["state"], payload.get("changed", [])
        return [name for name in changed if name in fields], _chosen(state, fields)
    except (UnreadableEventError, ValueError, KeyError, TypeError, AttributeError):
        # Nothing waits for somebody who can read it: the merchant asks the interface for the subject.
        return [], None


def _chosen(state: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    return {
        name: state.get(name) if inner is None else [_chosen(part, inner) for part in state.get(name) or ()]
        for name, inner in fields.items()
    }
