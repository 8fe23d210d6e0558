"""What a witness says of a server on which it cannot see, and when its state counts as seeing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconcile.witness_states import PROOF_WITHIN, WitnessState
from witness.slot import SlotState
from witness.slot_witness import _blind_reason, _trouble

GOOD = SlotState(level="logical", kept="1GB", flushed="0/500", confirmed="0/400", status="reserved", is_there=True)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
STATE = WitnessState(
    witness="oltp", pod="pod1", position="0/400", looked_at=NOW, proven_at=NOW, trouble="", asked_at=NOW
)


def test_a_server_that_can_have_no_safe_slot_is_said_with_its_setting() -> None:
    assert _trouble(GOOD) == ""
    assert "wal_level = replica" in _trouble(replace(GOOD, level="replica"))
    assert "max_slot_wal_keep_size" in _trouble(replace(GOOD, kept="-1"))


def test_a_slot_behind_the_stored_position_is_read_again() -> None:
    assert _blind_reason(GOOD, "0/450", "m", "m") == ""
    assert _blind_reason(replace(GOOD, status="unreserved"), "0/450", "m", "m") == ""


@pytest.mark.parametrize(
    ("state", "stored", "mark", "reason"),
    [
        (replace(GOOD, is_there=False, confirmed=None), "0/400", "m", "is gone"),
        (replace(GOOD, is_there=False, confirmed=None), "", "m", "was not there"),
        (replace(GOOD, status="lost"), "0/400", "m", "overtaken"),
        (GOOD, "", "m", "no position"),
        (GOOD, "0/3FF", "m", "moved the slot on"),
        (GOOD, "0/501", "m", "set back"),
        (GOOD, "0/400", "other", "publication was changed"),
    ],
)
def test_each_gap_has_its_reason(state: SlotState, stored: str, mark: str, reason: str) -> None:
    assert reason in _blind_reason(state, stored, "m", mark)


def test_silence_is_no_health() -> None:
    assert STATE.complaint == ""
    assert "never" in replace(STATE, proven_at=None).complaint
    assert replace(STATE, asked_at=NOW + PROOF_WITHIN).complaint == ""
    assert (
        "not seen its heartbeat since" in replace(STATE, asked_at=NOW + PROOF_WITHIN + timedelta(seconds=1)).complaint
    )
    assert replace(STATE, trouble="It is blind.").complaint == "It is blind."
