"""The observations of a drill. A drill holds only if each promise has observations, and all of them are as expected.

Belongs here: recording observations and judging them; pure. Does not belong here: making observations
(`drills/probes.py`, the cells), files (`drills/evidence_files.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from contracts.clock import Clock, utc_now
from contracts.drills import Drill, Promise


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One observation: what was expected, what was seen, and whether it is as expected."""

    promise: Promise
    subject: str
    """What was observed, e.g. ``pod1``."""
    expected: str
    seen: str
    is_ok: bool
    at: datetime


@dataclass(kw_only=True)
class Notes:
    """The observations of one drill, in the order of time."""

    clean: Callable[[str], str] = str
    """Removes secrets from the output of other programs."""
    clock: Clock = utc_now
    observations: list[Observation] = field(default_factory=list)

    def add(self, promise: Promise, subject: str, *, expected: str, seen: object, is_ok: bool) -> bool:
        """Record one observation, and return `is_ok`."""
        self.observations.append(
            Observation(
                promise=promise,
                subject=subject,
                expected=expected,
                seen=self.clean(str(seen)),
                is_ok=is_ok,
                at=self.clock(),
            )
        )
        return is_ok


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one drill."""

    system: str
    test: str
    started_at: datetime
    ended_at: datetime
    seconds_broken: float
    """Seconds from the break until the copy had caught up."""
    observations: tuple[Observation, ...]
    unobserved: tuple[Promise, ...]
    """Promises of the drill without an observation; they count as not held."""
    failure: str
    """Why the drill could not be finished; empty when it was finished."""
    machine_load: float = 0.0
    """Load average of the last minute per processor: above 1, processes wait for a processor."""
    log_tails: dict[str, str] = field(default_factory=dict)
    """The last lines of the workers' logs, if the drill did not hold."""

    @property
    def has_held(self) -> bool:
        """Whether it was finished, every promise was observed, and every observation was as expected."""
        return not self.failure and not self.unobserved and all(seen.is_ok for seen in self.observations)

    @property
    def seconds(self) -> float:
        """The duration of the drill in seconds."""
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def problems(self) -> tuple[str, ...]:
        """Descriptions of everything that was not as expected; empty when it held."""
        looks = [
            f"{seen.promise} ({seen.subject}): expected {seen.expected}; seen {seen.seen}"
            for seen in self.observations
            if not seen.is_ok
        ]
        missing = [f"{promise}: was not looked at" for promise in self.unobserved]
        return (*([self.failure] if self.failure else []), *looks, *missing)

    def with_logs(self, log_tails: dict[str, str]) -> Outcome:
        """Return the outcome with the last lines of the workers' logs."""
        return replace(self, log_tails=log_tails)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON-compatible values."""
        return {
            **asdict(self),
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "observations": [{**asdict(seen), "at": seen.at.isoformat()} for seen in self.observations],
            "seconds": round(self.seconds, 3),
            "has_held": self.has_held,
            "problems": list(self.problems),
        }


def outcome_from_json(values: dict[str, Any]) -> Outcome:
    """Return the outcome from the values of `as_json`; derived values are computed again, not read."""
    kept = {name: value for name, value in values.items() if name not in ("seconds", "has_held", "problems")}
    observations = [
        Observation(**{**seen, "promise": Promise(seen["promise"]), "at": datetime.fromisoformat(seen["at"])})
        for seen in kept["observations"]
    ]
    return Outcome(
        **{
            **kept,
            "started_at": datetime.fromisoformat(kept["started_at"]),
            "ended_at": datetime.fromisoformat(kept["ended_at"]),
            "observations": tuple(observations),
            "unobserved": tuple(Promise(name) for name in kept["unobserved"]),
        }
    )


def judge(
    drill: Drill,
    notes: Notes,
    *,
    started_at: datetime,
    ended_at: datetime,
    seconds_broken: float,
    failure: str = "",
    machine_load: float = 0.0,
) -> Outcome:
    """Return the outcome of a drill from its observations."""
    looked_at = {seen.promise for seen in notes.observations}
    return Outcome(
        system=drill.copy.name,
        test=drill.test.value,
        started_at=started_at,
        ended_at=ended_at,
        seconds_broken=round(seconds_broken, 3),
        observations=tuple(notes.observations),
        unobserved=tuple(promise for promise in drill.promises if promise not in looked_at),
        failure=notes.clean(failure) if failure else "",
        machine_load=round(machine_load, 1),
    )


def held(outcomes: Sequence[Outcome]) -> bool:
    """Return whether drills were run and every one of them held."""
    return bool(outcomes) and all(outcome.has_held for outcome in outcomes)
