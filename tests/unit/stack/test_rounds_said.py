"""What people read of the reconciler's rounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconcile.rounds import Round
from stack.looking.coverage import rounds_json, rounds_said

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROUND = Round(
    kind="changes",
    began_at=NOON,
    ended_at=NOON + timedelta(seconds=9),
    cpu_seconds=7.25,
    comparisons=40,
    swept_share=0.0125,
    trouble="",
)


def test_a_round_says_what_it_took() -> None:
    assert rounds_said({"changes": ROUND}, NOON + timedelta(seconds=30)) == [
        "Reconciler, round changes: ended 21 s ago, 40 comparisons in 9.0 s (7.2 s of processor time, 1.2% of all keys "
        "swept)."
    ]
    assert rounds_json({"changes": ROUND})[0]["ended_at"] == "2026-03-01T12:00:09+00:00"
    assert rounds_said({}, NOON) == []
