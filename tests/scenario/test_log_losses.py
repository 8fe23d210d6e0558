"""What the log loses before anything has read it: found although the copies wait for it, published again, proven."""

from __future__ import annotations

import pytest

from bench.repair_ways import CommandLine, run_round
from bench.started import SEED
from bench.world import running_system, trade
from drills.damages.outcomes import unsettled
from drills.damages.rounds import ROUNDS
from reconcile.results import latest_results

pytestmark = pytest.mark.timeout(600)


@pytest.mark.long
def test_what_was_lost_before_it_was_read_is_found_and_published_again() -> None:
    losses, emptied = (one for one in ROUNDS if one.name in ("log", "log emptied"))
    with running_system() as settings:
        trade(settings, orders=60, seed=SEED)
        way = CommandLine(settings)
        outcomes = run_round(way, settings, losses)
        assert [outcome for outcome in outcomes if not outcome.is_expected] == []
        assert [outcome.actions for outcome in outcomes] == [("republish",)] * 2
        outcomes = run_round(way, settings, emptied)
        assert [outcome for outcome in outcomes if not outcome.is_expected] == []
        assert [outcome.actions for outcome in outcomes] == [("republish",)]
        assert unsettled(settings.control_dsn) == []
        # What waited goes on by itself.
        way.find(losses.families)
        assert {result.verdict.value for result in latest_results(settings.control_dsn)} == {"consistent"}
