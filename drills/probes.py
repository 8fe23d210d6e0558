"""The observations that are made while a copy is broken.

Belongs here: one function per promise, for every copy. Does not belong here: promises of some copies only
(`drills/decisions.py`), breaking a copy (`drills/cells.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from contracts.drills import Promise
from contracts.errors import TieoutError
from contracts.ownership import Lateness
from contracts.text import counted
from contracts.verdicts import Verdict
from contracts.waiting import comes_true
from drills.scene import PATIENCE_SECONDS, Scene, summary
from drills.stores import ahead
from drills.trading import complaint, refusal

IMPATIENT_SECONDS = 0.2
"""Seconds that a comparison waits for a copy that is known to lag behind."""

SECRET_MARKS = ("password", "://")
"""Texts that a message for people must not contain: the word before a password in a DSN, or a URL that may contain one.
"""


def trade(
    scene: Scene,
    *,
    pods: Sequence[str] | None = None,
    promise: Promise = Promise.TRADE_GOES_ON,
    has_load: bool = True,
) -> None:
    """Sell, ship and refund in pods (None: all), and try commands that must be refused; note the results.

    `has_load`: also note whether the load traffic goes on. It stops when a pod is down, because its threads wait for
    this pod.
    """
    chosen = scene.pods if pods is None else pods
    before = {pod: orders_in(scene, pod) for pod in chosen}
    for pod in chosen:
        _travel(scene, pod, promise)
        _overstep(scene, pod)
    for pod in chosen if has_load else ():
        comes_true(lambda pod=pod: orders_in(scene, pod) > before[pod], seconds=PATIENCE_SECONDS)  # type: ignore[misc]
        more = orders_in(scene, pod) - before[pod]
        scene.note(
            promise,
            f"load on {pod}",
            expected="more orders than the drill's own",
            seen=f"{counted(more, 'order')} of other merchants placed meanwhile",
            is_ok=more > 0,
        )


def _travel(scene: Scene, pod: str, promise: Promise) -> None:
    done = []

    def journey() -> None:
        sale = scene.trader.sell(pod)
        done.append("sold")
        scene.trader.ship(pod, sale.order)
        done.append("shipped")
        scene.trader.refund(sale, 1)
        done.append("refunded")

    error = complaint(journey)
    scene.note(
        promise,
        pod,
        expected="sold, shipped, refunded",
        seen=", ".join([*done, *([f"then: {error}"] if error else [])]),
        is_ok=error is None and len(done) == 3,
    )


def _overstep(scene: Scene, pod: str) -> None:
    """Try commands that OLTP must refuse independently of all copies."""
    trader = scene.trader
    sale = trader.sell(pod)
    trader.ship(pod, sale.order)
    trader.refund(sale)
    attempts: Mapping[str, Callable[[], object]] = {
        "an order beyond the stock": lambda: trader.oversell(pod),
        "a second refund": lambda: trader.refund(sale),
        "a second shipment": lambda: trader.ship(pod, sale.order),
    }
    met = {what: refusal(attempt) for what, attempt in attempts.items()}
    scene.note(
        Promise.LIMITS_HOLD,
        pod,
        expected="each refused by OLTP",
        seen="; ".join(f"{what}: {name or 'let through'}" for what, name in met.items()),
        is_ok=all(met.values()),
    )


def orders_in(scene: Scene, pod: str) -> int:
    """Return the number of orders in a pod's OLTP that are not from the drill."""
    with psycopg.connect(scene.system.settings.pod(pod).reader_dsn) as connection:
        row = connection.execute("select count(*) from oltp.orders where source <> 'drill'").fetchone()
    return int(row[0]) if row else 0


def lag_is_reported(scene: Scene) -> None:
    """Wait until the copy lags more than its target; note the status and the contract's word for it."""
    copy = scene.drill.copy
    for pod in scene.pods:
        scene.await_standing(pod, lambda seen: seen.lag_seconds > min(copy.freshness_seconds, PATIENCE_SECONDS / 4))
    status = scene.system.status()
    for pod in scene.pods:
        now = scene.store.reported(status, pod)
        later = scene.store.standing(pod, clock=ahead(copy))
        # We do not wait for a target of many minutes. A clock in the future checks instead that the lag grows with
        # time.
        expected = Lateness.LATE if copy.freshness_seconds < PATIENCE_SECONDS else Lateness.FRESH
        scene.note(
            Promise.LAG_IS_REPORTED,
            pod,
            expected=f"events behind, {expected} now, and {Lateness.OVERDUE} {copy.late_seconds_max} s from now",
            seen=f"status: {now}; {copy.late_seconds_max} s from now: {later.lateness}",
            is_ok=now is not None
            and now.lag_events > 0
            and now.lateness is expected
            and later.lateness is Lateness.OVERDUE,
        )


def late_is_not_wrong(scene: Scene) -> None:
    """Compare while the copy lags, and note whether no result is inconsistent or unknown."""
    results = scene.compared(scene.drill.pairs, lag_seconds_max=IMPATIENT_SECONDS)
    for pod in scene.pods:
        found = [result for result in results if result.pod == pod]
        scene.note(
            Promise.LATE_IS_NOT_WRONG,
            pod,
            expected="each late, or consistent at the copy's own cut",
            seen=summary(found),
            is_ok=bool(found) and all(one.verdict in (Verdict.LATE, Verdict.CONSISTENT) for one in found),
        )


Pick = Callable[[Mapping[str, Any]], Mapping[str, str | None]]
"""A function that returns states of a status by name."""


def outage_is_reported(scene: Scene, dead: Pick, alive: Pick = lambda status: {}) -> None:
    """Note whether status answers during an outage, and reports exactly the parts that are down."""
    started = time.monotonic()
    status = scene.system.status()
    seconds = time.monotonic() - started
    unreachable, reachable = dead(status), alive(status)
    states = ", ".join(f"{name} {state}" for name, state in {**unreachable, **reachable}.items())
    scene.note(
        Promise.OUTAGE_IS_REPORTED,
        "tieout status",
        expected=f"unreachable: {', '.join(unreachable)}; not unreachable: {', '.join(reachable) or 'nothing'}",
        seen=f"{states}; after {seconds:.1f} s",
        is_ok=bool(unreachable)
        and all(state == "unreachable" for state in unreachable.values())
        and all(state != "unreachable" for state in reachable.values()),
    )


def is_refused_in_words(scene: Scene, subject: str, attempt: Callable[[], object]) -> None:
    """Note whether an attempt fails with one sentence for people, without a traceback and without a password."""
    seen, is_ok = "answered as if nothing were wrong", False
    try:
        attempt()
    except TieoutError as error:
        text = str(error)
        seen = text
        is_ok = bool(text.strip()) and "\n" not in text and not any(mark in text for mark in SECRET_MARKS)
    except Exception as error:
        seen = f"{type(error).__name__}, which nobody foresaw: {error}"
    scene.note(Promise.REFUSED_IN_WORDS, subject, expected="one sentence, without secrets", seen=seen, is_ok=is_ok)


def comes_back(scene: Scene, before: Mapping[str, str]) -> None:
    """Note whether all workers run again without a restart by the drill."""
    scene.await_running()
    states = scene.system.worker_states()
    scene.note(
        Promise.COMES_BACK_BY_ITSELF,
        "workers",
        expected=f"{len(before)} running",
        seen=", ".join(f"{name} {state}" for name, state in sorted(states.items())),
        is_ok=set(states) == set(before) and all(state == "running" for state in states.values()),
    )
