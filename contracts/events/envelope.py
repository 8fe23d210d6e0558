"""What every event carries besides its payload.

Belongs here: the envelope, and the names its columns have in the outbox, the log and the lake.
Does not belong here: payloads (one module per aggregate, beside this one).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from contracts.struct_types import make_known

FIRST_DIRECTORY_EPOCH = 1
"""In which every merchant is until it moves; what an event says that does not say it."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it leaves its pod; the field names are the column names in outbox, log and lake.

    The relay sets `pod`, `epoch`, `cut` and `partition`; the command writes all other fields. Key of the aggregate:
    (merchant_id, aggregate_type, aggregate_id); `aggregate_version` starts at 1 without gaps and continues when the
    merchant moves to another pod. Of two versions the newer one has the higher (`directory_epoch`,
    `aggregate_version`). A field that was added later has a default: events stored before it lack the field.
    """

    pod: str
    epoch: str
    cut: int
    partition: int
    position: int
    event_id: str
    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    aggregate_version: int
    event_type: str
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    causation_id: str | None
    correlation_id: str
    traceparent: str | None
    payload: str
    """JSON text exactly as the command wrote it: ``{"state": {...}, "changed": [...]}``."""
    directory_epoch: int = FIRST_DIRECTORY_EPOCH
    """Since which epoch of the directory the merchant lives in the pod, as the command found it."""


make_known(Envelope)

ENVELOPE_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Envelope))
"""Column names in the order of the log's record batches."""

DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in msgspec.structs.fields(Envelope) if field.default is not msgspec.NODEFAULT
}
"""What the columns that came later mean where an event lacks them."""


def envelope_values(text: str) -> dict[str, Any]:
    """Return an event's columns from its JSON text, also when the event was set aside because a column has no value."""
    try:
        return msgspec.structs.asdict(msgspec.json.decode(text, type=Envelope))
    except msgspec.ValidationError:
        values: dict[str, Any] = DEFAULTS | msgspec.json.decode(text)
        for name in ("occurred_at", "recorded_at"):
            values[name] = msgspec.convert(values[name], datetime | None)
        return values
