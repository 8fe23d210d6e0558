"""The matrix: for every declared cell, what its newest drill proves at a given time. Pure.

Belongs here: the states proven, failed, too old and never. Does not belong here: reading the table
(`drills/records.py`), showing the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from contracts.drills import DRILLS, PROOF_AGE_MAX, Drill
from contracts.text import counted
from drills.records import Proof


class ProofState(StrEnum):
    """What the newest drill of a cell proves, from best to worst."""

    PROVEN = "proven"
    NEVER = "never"
    """Not drilled yet."""
    TOO_OLD = "too old"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class CellProof:
    """One cell at a given time."""

    drill: Drill
    proof: Proof | None
    state: ProofState
    age: timedelta | None
    """The time since the newest drill ended; None when there was none."""

    def __str__(self) -> str:
        """Return the state in words."""
        return self.state.value if self.age is None else f"{self.state.value}, {age_words(self.age)} ago"


@dataclass(frozen=True, kw_only=True)
class SystemProof:
    """All cells of one copy at a given time."""

    system: str
    cells: tuple[CellProof, ...]

    @property
    def state(self) -> ProofState:
        """Return the worst state of its cells."""
        return max((cell.state for cell in self.cells), key=list(ProofState).index)

    @property
    def is_recent(self) -> bool:
        """Whether the newest drill of every cell held and is not too old."""
        return self.state is ProofState.PROVEN

    @property
    def oldest(self) -> timedelta | None:
        """Return the age of its oldest proof; None while a cell has none."""
        ages = [cell.age for cell in self.cells if cell.age is not None]
        return max(ages) if len(ages) == len(self.cells) else None

    @property
    def reason(self) -> str:
        """Return the state of every cell in words."""
        return "; ".join(f"{cell.drill.test}: {cell}" for cell in self.cells)


def cell_proofs(proofs: Sequence[Proof], now: datetime) -> tuple[CellProof, ...]:
    """Return every declared cell with the state of its newest proof at `now`."""
    newest = {(proof.system, proof.test): proof for proof in sorted(proofs, key=lambda one: one.ended_at)}
    return tuple(_cell(drill, newest.get((drill.copy.name, drill.test.value)), now) for drill in DRILLS)


def _cell(drill: Drill, proof: Proof | None, now: datetime) -> CellProof:
    if proof is None:
        return CellProof(drill=drill, proof=None, state=ProofState.NEVER, age=None)
    age = max(now - proof.ended_at, timedelta())
    state = ProofState.TOO_OLD if age > PROOF_AGE_MAX else ProofState.PROVEN
    return CellProof(drill=drill, proof=proof, state=state if proof.has_held else ProofState.FAILED, age=age)


def system_proofs(cells: Sequence[CellProof]) -> tuple[SystemProof, ...]:
    """Return the cells by copy, in the order of the contract."""
    names = dict.fromkeys(cell.drill.copy.name for cell in cells)
    return tuple(
        SystemProof(system=name, cells=tuple(cell for cell in cells if cell.drill.copy.name == name)) for name in names
    )


def matrix_json(cells: Sequence[CellProof]) -> list[dict[str, Any]]:
    """Return the matrix as JSON-compatible values."""
    return [
        {
            "system": cell.drill.copy.name,
            "test": cell.drill.test.value,
            "state": cell.state.value,
            "age_seconds": None if cell.age is None else round(cell.age.total_seconds(), 1),
            "proven_at": cell.proof.ended_at.isoformat() if cell.proof and cell.proof.has_held else None,
            "drilled_at": cell.proof.ended_at.isoformat() if cell.proof else None,
            "code_version": cell.proof.code_version if cell.proof else None,
            "problems": cell.proof.problems if cell.proof else [],
            "evidence": cell.proof.evidence if cell.proof else None,
        }
        for cell in cells
    ]


def summary(cells: Sequence[CellProof]) -> str:
    """Return the matrix in one line."""
    counts = {state: sum(cell.state is state for cell in cells) for state in ProofState}
    ages = [cell.age for cell in cells if cell.age is not None and cell.state is ProofState.PROVEN]
    others = [f"{number} {state.value}" for state, number in counts.items() if number and state != ProofState.PROVEN]
    oldest = f", the oldest proof {age_words(max(ages))} old" if ages else ""
    proven = f"{counts[ProofState.PROVEN]} of {counted(len(cells), 'drill')} proven{oldest}"
    return "; ".join([proven, *others])


def age_words(age: timedelta) -> str:
    """Return an age in words."""
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{age.days} days"
