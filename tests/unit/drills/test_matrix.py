"""What a proof says depends on its age and on nothing else than the newest drill of its cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contracts.drills import DRILLS, PROOF_AGE_MAX
from contracts.ownership import COPIES
from drills.matrix import ProofState, SystemProof, cell_proofs, matrix_json, summary, system_proofs
from drills.records import Proof

NOW = datetime(2030, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def proof(system: str, test: str, *, age: timedelta = DAY, has_held: bool = True) -> Proof:
    return Proof(
        run="a-run",
        system=system,
        test=test,
        code_version="abc",
        started_at=NOW - age - timedelta(minutes=1),
        ended_at=NOW - age,
        seconds_broken=1.0,
        has_held=has_held,
        observations=9,
        problems=[] if has_held else ["it broke"],
        evidence="/somewhere.json",
    )


ALL = [proof(drill.copy.name, drill.test.value) for drill in DRILLS]


def system(proofs: Sequence[Proof], name: str = "lake") -> SystemProof:
    (found,) = [one for one in system_proofs(cell_proofs(proofs, NOW)) if one.system == name]
    return found


def changed(**values: object) -> list[Proof]:
    """Return proofs of all cells, of which that of lake/lag is changed."""
    return [replace(one, **values) if (one.system, one.test) == ("lake", "lag") else one for one in ALL]  # type: ignore[arg-type]


def test_a_copy_is_proven_when_every_drill_of_it_held_lately() -> None:
    found = system(ALL)
    assert found.is_recent and found.state is ProofState.PROVEN and found.oldest == DAY
    assert len(DRILLS) == 4 * len(COPIES)
    assert summary(cell_proofs(ALL, NOW)) == f"{len(DRILLS)} of {len(DRILLS)} drills proven, the oldest proof 24 h old"


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (PROOF_AGE_MAX, ProofState.PROVEN),
        (PROOF_AGE_MAX + timedelta(seconds=1), ProofState.TOO_OLD),
        (-timedelta(hours=1), ProofState.PROVEN),
    ],
)
def test_a_proof_counts_until_its_age_is_over(age: timedelta, state: ProofState) -> None:
    found = system(changed(ended_at=NOW - age))
    assert found.state is state and found.is_recent is (state is ProofState.PROVEN)
    assert system(changed(ended_at=NOW - age), "log").is_recent


def test_one_failed_drill_makes_the_copy_failed_however_new_the_others_are() -> None:
    found = system(changed(has_held=False))
    assert not found.is_recent and found.state is ProofState.FAILED
    assert "lag: failed, 24 h ago" in found.reason


def test_a_failure_is_not_made_good_by_an_older_proof_but_by_a_newer_one() -> None:
    failed = proof("lake", "lag", age=DAY / 2, has_held=False)
    assert system([*ALL, failed]).state is ProofState.FAILED
    assert system([proof("lake", "lag", age=DAY / 4), *ALL, failed]).state is ProofState.PROVEN


def test_what_was_never_drilled_is_not_proven() -> None:
    assert system([]).state is ProofState.NEVER and system([]).oldest is None
    missing = [one for one in ALL if (one.system, one.test) != ("lake", "lag")]
    assert system(missing).state is ProofState.NEVER and not system(missing).is_recent
    assert summary(cell_proofs(missing, NOW)).endswith("; 1 never")


def test_the_matrix_for_programs_names_every_cell() -> None:
    rows = matrix_json(cell_proofs(changed(has_held=False, problems=["x"]), NOW))
    assert [(row["system"], row["test"]) for row in rows] == [(d.copy.name, d.test.value) for d in DRILLS]
    (bad,) = [row for row in rows if row["state"] == "failed"]
    assert (bad["system"], bad["test"], bad["proven_at"], bad["problems"]) == ("lake", "lag", None, ["x"])
    assert bad["drilled_at"] == (NOW - DAY).isoformat()
