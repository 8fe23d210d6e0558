"""What a merchant's admin sees of the messages of an endpoint: how far it is, one message, a replay.

Belongs here: these answers. Does not belong here: the routes (`api/routes/webhooks.py`), how far an endpoint is
(`derived/webhooks/standing.py`).
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class CutRange(msgspec.Struct, frozen=True, kw_only=True):
    """Cuts of a pod, both ends included."""

    first_cut: int
    last_cut: int


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What is told again, or would be."""

    is_preview: bool
    cuts: dict[str, CutRange]
    """By pod."""
    events: dict[str, int]
    """Type of event -> how many."""
    total: int


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an endpoint."""

    event_id: str
    pod: str
    cut: int
    event_type: str
    aggregate_type: str
    aggregate_id: str
    recorded_at: datetime
    state: str
    """waiting or skipped."""
    attempts: int
    first_failed_at: datetime | None
    last_status: int | None
    """What the endpoint answered last; null: nothing."""
    skipped_at: datetime | None
    skipped_by: str
    skipped_because: str


class SkippedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the endpoint was not told of, because a person has decided so."""

    event_id: str
    cut: int
    event_type: str
    aggregate_type: str
    aggregate_id: str
    skipped_at: datetime
    skipped_by: str
    skipped_because: str


class PodDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How far an endpoint is with the events of one pod."""

    pod: str
    told_from_cut: int
    noted_cut: int
    """Everything up to this cut waits, or was acknowledged."""
    complete_to_cut: int | None
    """Up to this cut a comparison with the books has proven that every event is there, and each was acknowledged,
    except what was skipped."""
    complete_to_time: datetime | None
    """When that cut was taken: every event that was committed before it was acknowledged."""
    waiting: int
    oldest_waiting_at: datetime | None
    acknowledged: int
    skipped: int
    """How many messages a person has skipped; the endpoint is not told of them."""
    skipped_messages: list[SkippedMessage]
    """The newest of them."""
    not_told: list[CutRange]
    """Cuts of which the endpoint was told nothing, because it was disabled or full: replay them."""
    verdict: str
    """consistent, inconsistent, late or unknown."""
    compared_at: datetime | None


class DeliveryStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far an endpoint is."""

    endpoint_id: str
    state: str
    """on, parked, disabled or full."""
    parked_at: datetime | None
    parked_because: str
    acknowledged_at: datetime | None
    """When it last acknowledged a message."""
    failed_at: datetime | None
    failed_because: str
    pods: list[PodDelivery]
