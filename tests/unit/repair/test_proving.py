"""What a repair compares again besides the pairs of its breaks."""

from __future__ import annotations

from contracts.events import STATE_TYPES
from reconcile.pairs import PAIRS
from repair.proving import HISTORIES, STORED, stored_pairs_of


def test_of_a_damaged_event_the_history_of_its_type_and_all_that_is_made_of_several_are_compared() -> None:
    assert set(stored_pairs_of(["payment"])) == {
        "lake_warehouse.payments_history",
        "lake_warehouse.journal_entries",
        "lake_warehouse.tax_movements",
    }
    # Every stored table is compared for some type, and every type has a history.
    assert set(stored_pairs_of(STATE_TYPES)) == set(STORED.values()) == {one.name for one in PAIRS if one.stored_tables}
    assert set(HISTORIES) <= set(STORED) and set(HISTORIES.values()) == set(STATE_TYPES)
