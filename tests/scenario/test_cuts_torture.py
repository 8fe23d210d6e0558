"""The cut rule under torture: nothing lost, nothing twice, order per aggregate, and the fold equal to the tables.

And the proof that this test can fail: the two usual rules do not survive the same writers.
Run more seeds with `TIEOUT_TORTURE_SEEDS=20 .venv/bin/pytest tests/scenario/test_cuts_torture.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from streams.valkey_log import ValkeyLog
from tests.scenario.cuts_harness import ByCuts, ByPosition, ByXmin, Outcome, Publisher, torture
from tests.streams_support import create_outbox

MakeDatabase = Callable[..., str]
SEEDS = int(os.environ.get("TIEOUT_TORTURE_SEEDS", "2"))
ATTEMPTS = 5


@pytest.mark.parametrize("number", range(SEEDS))
def test_cuts_lose_repeat_and_reorder_nothing(
    make_database: MakeDatabase, valkey_url: str, seed: int, number: int
) -> None:
    dsn = create_outbox(make_database("tieout_relay"))
    log = ValkeyLog(valkey_url)
    outcome = torture(dsn, make_database(), seed, ByCuts(dsn, log, seed), is_reconciling=True)
    print(f"seed {seed}: {outcome.events} events, {outcome.reconciled_cuts} reconciled cuts")
    log.close()
    assert outcome.is_clean, outcome
    assert outcome.events > 200 and outcome.reconciled_cuts > 5


def first_failure(
    make_database: MakeDatabase, seed: int, rule: Callable[[str], Publisher], is_found: Callable[[Outcome], bool]
) -> Outcome | None:
    for attempt in range(ATTEMPTS):
        dsn = create_outbox(make_database("tieout_relay"))
        outcome = torture(dsn, make_database(), seed + attempt, rule(dsn), is_reconciling=False)
        if is_found(outcome):
            return outcome
    return None


def test_the_torture_finds_what_paging_by_position_loses(make_database: MakeDatabase, seed: int) -> None:
    outcome = first_failure(make_database, seed, ByPosition, lambda outcome: bool(outcome.lost))
    assert outcome is not None, f"{ATTEMPTS} runs lost nothing: the torture is too mild"
    print(f"position > last: lost {len(outcome.lost)} of {outcome.events}")


def test_the_torture_finds_what_gating_on_xmin_reorders(make_database: MakeDatabase, seed: int) -> None:
    outcome = first_failure(make_database, seed, ByXmin, lambda outcome: bool(outcome.reordered))
    assert outcome is not None, f"{ATTEMPTS} runs reordered nothing: the torture is too mild"
    assert not outcome.lost, "gating on xmin loses nothing; the harness must not say so"
    print(f"xid < xmin: reordered {len(outcome.reordered)} of {outcome.events}")
