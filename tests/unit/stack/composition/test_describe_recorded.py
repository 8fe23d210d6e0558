"""What a comparison says of the ledger in one line."""

from __future__ import annotations

from cli.status_view import breaks_line, comparisons_line
from repair.ledger import Recorded
from stack.composition.reconciling import describe_recorded, recorded_json


def test_a_run_that_changed_nothing_says_so() -> None:
    assert describe_recorded(Recorded(run="r")) == "Breaks: none opened."


def test_everything_that_changed_is_said_once() -> None:
    recorded = Recorded(run="r", breaks_opened=1_200, breaks_seen=3, breaks_repaired=2, breaks_vanished=1)
    assert describe_recorded(recorded) == (
        "Breaks: 1,200 opened, 3 still there, 2 repaired, 1 vanished. See `tieout breaks list`."
    )
    assert recorded_json(recorded)["breaks_ended"] == 3


def test_the_status_names_what_has_not_ended_and_tells_none_from_unknown() -> None:
    counts = {"open": 2, "repairing": 0, "escalated": 1_000, "accepted": 0}
    assert breaks_line(counts) == "Breaks: 2 open, 1,000 escalated; see `tieout breaks list`."
    assert breaks_line(dict.fromkeys(counts, 0)) == "Breaks: none."
    assert "does not answer" in breaks_line(None)


def test_never_compared_is_told_from_not_known() -> None:
    assert "does not answer" in comparisons_line(None)
    assert "Nothing has been compared yet" in comparisons_line([])
