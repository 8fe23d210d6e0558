"""The metadata with which a command runs: its key, tracing ids and time, and what its caller expects and wants to know.

Belongs here: this value, and its check. Does not belong here: running a command (`oltp/commands/execute.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from contracts.errors import InputError
from contracts.limits import At, IdempotencyKey, Reference, Uuid
from oltp.commands.body import body_hash, field_hashes
from oltp.commands.checking import check_fields
from oltp.transaction import Expected, Notes

if TYPE_CHECKING:
    from oltp.commands.execute import Command, CommandPod


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a command: its key, tracing ids and time."""

    idempotency_key: IdempotencyKey
    correlation_id: Uuid
    causation_id: Uuid | None
    traceparent: Reference | None
    occurred_at: At
    is_kept: bool
    body_hash: str
    field_hashes: str | None = None
    """As JSON; None: the caller does not tell its client which fields of a conflict differ."""
    notes: Notes | None = None
    expects: Expected | None = None
    is_abandoned: bool = False
    """Whether the caller no longer waits, and the command is only finished."""


def request_of(
    pod: CommandPod,
    command: Command[Any],
    *,
    idempotency_key: str,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    traceparent: str | None = None,
    occurred_at: datetime | None = None,
    notes: Notes | None = None,
    expects: Expected | None = None,
) -> Request:
    """Return the metadata of a command; InputError when the metadata or the command breaks a limit."""
    if not idempotency_key:
        raise InputError("A command needs an idempotency key.")
    check_fields(command)
    request = Request(
        idempotency_key=idempotency_key,
        correlation_id=correlation_id or str(pod.new_uuid()),
        causation_id=causation_id,
        traceparent=traceparent,
        occurred_at=occurred_at or pod.clock(),
        is_kept=occurred_at is not None,
        body_hash=body_hash(command),
        field_hashes=None if notes is None else msgspec.json.encode(field_hashes(command)).decode(),
        notes=notes,
        expects=expects,
    )
    check_fields(request)
    return request
