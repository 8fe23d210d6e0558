"""The envelope of events from before it had all of today's fields, as parked tables keep it: JSON text."""

from __future__ import annotations

import msgspec
import pytest

from contracts.events.envelope import DEFAULTS, ENVELOPE_COLUMNS, Envelope, envelope_values

STORED = {
    "pod": "pod1", "epoch": "e", "cut": 1, "partition": 0, "position": 1, "event_id": "1", "merchant_id": "m",
    "aggregate_type": "order", "aggregate_id": "o", "aggregate_version": 1, "event_type": "order_placed",
    "schema_version": 1, "occurred_at": "2026-01-02T03:04:05Z", "recorded_at": "2026-01-02T03:04:05Z",
    "causation_id": None, "correlation_id": "c", "traceparent": None, "payload": "{}",
}  # fmt: skip
"""Every field of the first version; none of them may get a default, or go."""


@pytest.mark.parametrize("changes", [{}, {"correlation_id": None}], ids=["whole", "set aside for a null"])
def test_what_it_lacks_has_its_default(changes: dict[str, object]) -> None:
    values = envelope_values(msgspec.json.encode(STORED | changes).decode())
    assert tuple(sorted(values)) == tuple(sorted(ENVELOPE_COLUMNS))
    assert values["directory_epoch"] == 1
    assert {name: values[name] for name in ("pod", "cut", "payload")} == {"pod": "pod1", "cut": 1, "payload": "{}"}


def test_only_what_came_later_has_a_default() -> None:
    assert ENVELOPE_COLUMNS[: len(STORED)] == tuple(STORED)
    assert DEFAULTS.keys() == {*ENVELOPE_COLUMNS} - STORED.keys()
    assert msgspec.convert(STORED, Envelope).directory_epoch == 1
