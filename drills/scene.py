"""The scene of a drill: the system, the trader, the notes, and the steps that all cells share.

Belongs here: breaking, waiting, and the observations that all cells make before and after the break. Does not belong
here: observations during the break (`drills/probes.py`), the stores (`drills/stores.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.drills import Drill, Promise
from contracts.errors import PropagationError
from contracts.ownership import WAREHOUSE, Copy, Lateness
from contracts.text import counted
from contracts.verdicts import PairResult, Verdict
from contracts.waiting import comes_true
from drills.observing import Notes
from drills.stores import Standing, Store
from drills.system import System
from drills.trading import Trader
from reconcile.comparison_run import run_pairs

PATIENCE_SECONDS = 60.0
"""Time limit in seconds for short waits; a copy itself gets the lag that the contract allows."""


def copy_states(status: Mapping[str, Any], copy: Copy) -> Mapping[str, str | None]:
    """Return the states of a copy in a status, by copy and pod."""
    rows = status["warehouse" if copy is WAREHOUSE else "projections"]
    return {f"{copy.name} of {row['pod']}": row["state"] for row in rows if row["name"] == copy.name}


@dataclass(kw_only=True)
class Scene:
    """One drill in progress."""

    system: System
    store: Store
    drill: Drill
    trader: Trader
    notes: Notes
    workers: tuple[str, ...]
    """The names of all workers of the system."""
    broken_at: float | None = None
    caught_up_at: float | None = None
    log_cuts: dict[str, int] = field(default_factory=dict)
    """The last complete cut of the log at the start of the drill, by pod."""

    @property
    def pods(self) -> list[str]:
        """Return the names of the pods."""
        return [pod.pod for pod in self.system.settings.pods]

    @property
    def seconds_broken(self) -> float:
        """Return the seconds from the break until the copy had caught up, or until now."""
        if self.broken_at is None:
            return 0.0
        return (self.caught_up_at or time.monotonic()) - self.broken_at

    def note(self, promise: Promise, subject: str, *, expected: str, seen: object, is_ok: bool) -> bool:
        """Record one observation, and return `is_ok`."""
        return self.notes.add(promise, subject, expected=expected, seen=seen, is_ok=is_ok)

    def copy_states(self, status: Mapping[str, Any]) -> Mapping[str, str | None]:
        """Return the states of the drill's copy in a status, by copy and pod."""
        return copy_states(status, self.drill.copy)

    def begin(self) -> None:
        """Wait until the system is healthy, note it, and clear the list of sales."""
        self.await_running()
        self.store.prepare()
        self.trader.forget()
        for pod in self.pods:
            self.log_cuts[pod] = self.store.log_cut(pod)
        target = self.drill.copy.freshness_seconds
        for pod in self.pods:
            standing = self.await_standing(pod, lambda seen: seen.lateness is Lateness.FRESH)
            self.note(
                Promise.WAS_HEALTHY,
                pod,
                expected=f"all workers running, lag at most {target} s",
                seen=f"{counted(len(self.workers), 'worker')} running, {standing}",
                is_ok=standing is not None and standing.lateness is Lateness.FRESH,
            )

    def await_running(self) -> None:
        """Wait until the supervisor reports all workers as running; PropagationError when one is not."""
        states: Mapping[str, str] = {}

        def are_running() -> bool:
            nonlocal states
            states = self.system.worker_states()
            return all(states.get(name) == "running" for name in self.workers)

        if not comes_true(are_running, seconds=PATIENCE_SECONDS):
            ended = ", ".join(f"{name} is {states.get(name)}" for name in self.workers if states.get(name) != "running")
            raise PropagationError(f"Not every worker runs: {ended}.")

    def breaks(self) -> None:
        """Record the time of the break."""
        self.broken_at = time.monotonic()

    def stop_copy(self) -> None:
        """Kill the workers of the copy, and keep them stopped."""
        self.system.kill_workers(self.store.workers())
        self.breaks()

    def start_copy(self) -> None:
        """Start the workers of the copy."""
        self.system.start_workers(self.store.workers())
        self.await_running()

    def await_standing(
        self, pod: str, is_there: Callable[[Standing], bool], seconds: float = PATIENCE_SECONDS
    ) -> Standing | None:
        """Poll the copy's position in a pod until `is_there` is true or the time is over; return the last position."""
        last: Standing | None = None

        def look() -> bool:
            nonlocal last
            try:
                last = self.store.standing(pod)
            except Exception:  # an unreachable store is asked again; its state is noted elsewhere
                last = None
            return last is not None and is_there(last)

        comes_true(look, seconds=seconds)
        return last

    def catch_up(self) -> None:
        """Wait until the copy has everything that is committed now, and note the time."""
        started, allowed = time.monotonic(), float(self.drill.copy.late_seconds_max)
        goals = {pod: self.store.goal(pod) for pod in self.pods}
        self.store.bring(goals)
        for pod, goal in goals.items():
            left = max(1.0, allowed - (time.monotonic() - started))
            standing = self.await_standing(pod, lambda seen, cut=goal: seen.has_reached(cut), left)  # type: ignore[misc]
            self.note(
                Promise.CATCHES_UP,
                pod,
                expected=f"cut {goal}, which holds all that was committed, within {allowed:g} s",
                seen=f"{standing}, after {time.monotonic() - started:.1f} s",
                is_ok=standing is not None and standing.has_reached(goal),
            )
        self.caught_up_at = time.monotonic()

    def compare_equal(self) -> None:
        """Compare the copy with its owner at a new cut, and note the results."""
        results = self.compared(self.drill.pairs, lag_seconds_max=float(self.drill.copy.late_seconds_max))
        for pod in self.pods:
            found = [result for result in results if result.pod == pod]
            keys = sum(result.compared for result in found)
            self.note(
                Promise.EQUAL_AGAIN,
                pod,
                expected="every comparison consistent, and something compared",
                seen=summary(found),
                is_ok=keys > 0 and all(result.verdict is Verdict.CONSISTENT for result in found),
            )

    def compared(self, pairs: Collection[str], *, lag_seconds_max: float) -> Sequence[PairResult]:
        """Compare at a new cut of every pod, while traffic goes on."""
        return run_pairs(self.system.context(lag_seconds_max=lag_seconds_max), pairs)

    def count_sales(self) -> None:
        """Note whether every sale that was acknowledged during the drill is in the copy exactly once."""
        for pod in self.pods:
            sold = [sale.order.order_id for sale in self.trader.sales if sale.pod == pod]
            counts = self.store.counts(pod, sold, after_cut=self.log_cuts[pod])
            once = sum(counts.get(order_id) == 1 for order_id in sold)
            lost = sum(counts.get(order_id, 0) == 0 for order_id in sold)
            double = sum(counts.get(order_id, 0) > 1 for order_id in sold)
            self.note(
                Promise.NOTHING_LOST_OR_DOUBLE,
                pod,
                expected=f"{len(sold)} of {counted(len(sold), 'acknowledged order')} exactly once, at least 1",
                seen=f"{once} once, {lost} lost, {double} more than once",
                is_ok=bool(sold) and once == len(sold),
            )

    def require(self, is_true: Callable[[], bool], otherwise: str) -> None:
        """Wait for a precondition of the drill; PropagationError when it does not become true."""
        if not comes_true(is_true, seconds=PATIENCE_SECONDS):
            raise PropagationError(f"After {PATIENCE_SECONDS:.0f} s {otherwise}.")

    def pause(self, seconds: float) -> None:
        """Sleep, so that a data age can grow."""
        time.sleep(seconds)

    def prove(self) -> None:
        """Catch up, compare and count; every drill ends with these steps."""
        self.catch_up()
        self.compare_equal()
        self.count_sales()


def summary(results: Sequence[PairResult]) -> str:
    """Return the results of comparisons in words."""
    keys = sum(result.compared for result in results)
    good = sum(result.verdict is Verdict.CONSISTENT for result in results)
    cuts = sorted({result.cut for result in results if result.cut is not None})
    others = [
        f"{result.pair} is {result.verdict}: "
        f"{result.reason or counted(result.differences, 'key differs', 'keys differ')}"
        for result in results
        if result.verdict is not Verdict.CONSISTENT
    ]
    compared = counted(len(results), "comparison")
    text = f"{good} of {compared} consistent at cut {', '.join(map(str, cuts))}, {counted(keys, 'key')}"
    return "; ".join([text, *others[:3]])
