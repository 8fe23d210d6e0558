"""Disputes about payments over all pods, as operators look at them and record them by hand.

Belongs here: finding the pod. Does not belong here: what is read (`oltp/reads/disputes.py`) and what happens to a
dispute (`oltp/commands/record_dispute.py`), what is printed (`cli/commands/disputes.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from contracts.events.payment import DisputeStatus, PaymentState
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.record_dispute import RecordDispute, RecordedDispute
from oltp.directory import pod_of
from oltp.domain.disputes import dispute_named
from oltp.reads.aggregates import state_of
from oltp.reads.disputes import disputes_in, find_dispute


def all_disputes(
    settings: Settings, *, merchant_id: str | None = None, is_ended: bool = False, limit: int = 100
) -> list[dict[str, Any]]:
    """Return at most `limit` disputes, the newest first, each with its pod; `is_ended`: also those that have ended."""
    found = [
        (pod.pod, one)
        for pod in settings.pods
        for one in disputes_in(pod.reader_dsn, merchant_id=merchant_id, is_ended=is_ended, limit=limit)
    ]
    found.sort(key=lambda named: (named[1].opened_at, named[1].payment_dispute_id), reverse=True)
    return [{"pod": pod, **msgspec.to_builtins(one)} for pod, one in found[:limit]]


def dispute_shown(settings: Settings, dispute_id: str) -> dict[str, Any]:
    """Return one dispute with its pod and `said`: what was said of disputes about its payment; NotFoundError."""
    pod, one, said = find_dispute([(pod.pod, pod.reader_dsn) for pod in settings.pods], dispute_id)
    return {"pod": pod, **msgspec.to_builtins(one), "said": msgspec.to_builtins(said)}


def standing_of(settings: Settings, command: RecordDispute) -> tuple[PaymentState, DisputeStatus | None]:
    """Return the payment that a command names, and what the books say of its dispute; NotFoundError. Only looks."""
    pod = settings.pod(pod_of(settings.control_dsn, command.merchant_id).pod)
    with psycopg.connect(pod.reader_dsn, autocommit=True) as connection:
        payment = state_of(connection, PaymentState, command.merchant_id, command.payment_id)
    known = dispute_named(payment, command.provider_reference)
    return payment, None if known is None else known.status


def record_now(settings: Settings, command: RecordDispute) -> RecordedDispute:
    """Record by hand what the payment provider says of a dispute, in the merchant's pod."""
    pod = settings.pod(pod_of(settings.control_dsn, command.merchant_id).pod)
    with build_command_pod(pod, connections_max=1) as opened:
        # A key of its own: said twice it finds the dispute recorded, and changes nothing.
        return execute(opened, command, idempotency_key=f"dispute-by-hand-{uuid7()}")
