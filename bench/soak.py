"""A soak test for false differences: compare every pair repeatedly during traffic and disturbances.

    python -m bench.soak [--seconds 600] [--rate 20] [--json]

Checkouts, cancellations, refunds and changes of prices, catalog, stock, configuration and entitlements go on. Meanwhile
relays are killed, consumers are stopped, a transaction stays open, the warehouse is rebuilt, and lake, outbox and log
are compacted, pruned and trimmed. Results go to the ledger of breaks and to the sender of alerts: no break and no alert
is allowed. Every other round is incremental: it compares only changes and the next part of the sweep, even for small
pods.

Belongs here: this run, on its own servers and workers, and its count of verdicts; no data is damaged, so every
difference is false. Does not belong here: the disturbances (`bench/disturbances.py`), the speed of a comparison
(`bench/compare.py`).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import cycle

import psycopg

from bench.disturbances import WANTED, Scene, disturbed
from bench.figures import Figure, options_of, report
from bench.world import running_system
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.errors import StackError
from contracts.ownership import absent_copies
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from contracts.waiting import wait_until
from derived.lake_connection import open_lake
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.results import save_results
from reconcile.sweep import SweepPlan
from repair import ledger
from repair.alerts.deciding import AlertKind
from repair.sweeping import plans_for, take_in
from stack.composition.builder import warm_builder
from stack.composition.comparison import build_reconcile_context
from stack.composition.damaging import stopped
from stack.upkeep.alerting import tell

START_SECONDS_MAX = 180.0
IMPATIENT_SECONDS = 1.0
"""Seconds that a comparison waits for a copy whose consumer is stopped on purpose; then the verdict is late."""
ROUNDS_BETWEEN_LATE = 5
"""The number of rounds per such comparison, which follows the first of these rounds."""
EXTRA_SECONDS_MAX = 120.0
WHOLE_ROUNDS_MAX = 3
"""The largest number of complete comparisons before and after the disturbances; in the first ones a copy may still be
late.
"""
FALSE = (Verdict.INCONSISTENT, Verdict.UNKNOWN)

HAPPENED = {
    "orders placed": ("order_placed",),
    "cancellations, of orders or parts": ("order_cancelled",),
    "shipments": ("fulfillment_shipped",),
    "refunds completed": ("refund_completed",),
    "price changes": ("price_set",),
    "changes of products and variants": ("product_upserted", "variant_upserted"),
    "changes of a merchant's configuration": ("merchant_configured",),
    "entitlements granted and revoked": (
        "merchant_entitlement_granted",
        "merchant_entitlement_revoked",
        "customer_entitlement_granted",
        "customer_entitlement_revoked",
    ),
    "stock received, corrected, written off": ("stock_moved",),
    "reservations, held and given back": ("stock_reserved", "reservation_released", "reservation_expired"),
    "adjustments booked": ("adjustment_booked",),
}
"""The event types that must have occurred during the run."""


@dataclass(kw_only=True)
class Soak:
    """The results of a run."""

    rounds: int = 0
    partial: int = 0
    """The number of incremental comparisons."""
    keys_compared: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    doubtful: list[PairResult] = field(default_factory=list)
    """The inconsistent or unknown results."""
    unfinished: int = 0
    """The results of the last round, after all disturbances, that are not consistent."""
    events: Counter[str] = field(default_factory=Counter)
    """The number of events during the run, by event type."""
    disturbances: Counter[str] = field(default_factory=Counter)
    breaks_opened: int = 0
    alerts_written: int = 0
    seconds: float = 0.0

    def add(self, results: Sequence[PairResult]) -> None:
        """Add the results of one round."""
        self.rounds += 1
        self.partial += sum(not result.is_whole for result in results)
        self.keys_compared += sum(result.compared for result in results)
        self.verdicts.update(result.verdict for result in results)
        self.doubtful += [result for result in results if result.verdict in FALSE]
        self.unfinished = sum(result.verdict is not Verdict.CONSISTENT for result in results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; return 0 when all disturbances happened without a difference, unknown result or alert, else 1."""
    sizes = {"seconds": (600.0, "how long to compare"), "rate": (20.0, "orders per second over both pods")}
    options = options_of("soak", __doc__, arguments, sizes)
    soak = run_soak(seconds=options.seconds, orders_per_second=options.rate, say=_say)
    for result in soak.doubtful:
        _say(f"{result.pair} in {result.pod} at cut {result.cut}: {result.verdict}. {result.reason}")
        for found in result.sample[:5]:
            _say(f"  {found}")
    return report("soak", figures(soak), is_json=options.json)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def figures(soak: Soak) -> list[Figure]:
    """Return the results as figures; a run without traffic or disturbances misses its goals."""
    return [
        Figure(name="time", value=soak.seconds, unit="s"),
        Figure(name="rounds over all pairs and pods", value=soak.rounds, unit=""),
        _some("comparisons made", soak.verdicts.total()),
        _some("of these of what changed and a part of the rest", soak.partial),
        _some("keys compared", soak.keys_compared),
        *(_some(name, sum(soak.events[kind] for kind in kinds)) for name, kinds in HAPPENED.items()),
        Figure(name="events altogether", value=soak.events.total(), unit=""),
        *(_some(name, soak.disturbances[name]) for name in WANTED),
        Figure(name=f"verdict {Verdict.CONSISTENT}", value=soak.verdicts[Verdict.CONSISTENT], unit=""),
        _some(f"verdict {Verdict.LATE}, a consumer being stopped on purpose", soak.verdicts[Verdict.LATE]),
        *(_none(f"verdict {verdict}", soak.verdicts[verdict]) for verdict in FALSE),
        _none("not consistent after all disturbances", soak.unfinished),
        _none("breaks opened", soak.breaks_opened),
        _none("alerts written", soak.alerts_written),
    ]


def _some(name: str, value: int) -> Figure:
    return Figure(name=name, value=value, unit="", goal="> 0", is_met=value > 0)


def _none(name: str, value: int) -> Figure:
    return Figure(name=name, value=value, unit="", goal="= 0", is_met=value == 0)


def run_soak(*, seconds: float, orders_per_second: float, say: Callable[[str], None] = lambda text: None) -> Soak:
    """Start servers, workers and traffic, compare everything for `seconds`, finish the last round, and stop all."""
    soak = Soak()
    with _selling(orders_per_second) as settings, warm_builder(settings) as builder:
        context = replace(build_reconcile_context(settings, build=builder.build_to), whole_orders_max=0)
        began, started = utc_now(), time.monotonic()
        # Incremental rounds need one complete comparison before them.
        _compare_all(settings, soak, context, say)
        scene, disturbed_at = Scene(settings=settings, seconds=seconds), time.monotonic()
        with disturbed(scene):
            for is_partial in cycle((True, False)):
                if not _goes_on(scene, time.monotonic() - disturbed_at):
                    break
                plans = _plans(settings) if is_partial else {}
                _take_in(settings, soak, run_pairs(context, plans=plans), say)
                if scene.rounds % ROUNDS_BETWEEN_LATE == 0:
                    _compare_late(settings, soak, context, say)
                scene.rounds += 1
        _compare_all(settings, soak, context, say)
        soak.seconds = time.monotonic() - started
        soak.events, soak.disturbances = _events(settings, began), scene.done
        soak.breaks_opened = _breaks(settings)
        soak.alerts_written = _alerts(settings)
    return soak


def _compare_all(settings: Settings, soak: Soak, context: ReconcileContext, say: Callable[[str], None]) -> None:
    """Compare everything until no result is late."""
    for _ in range(WHOLE_ROUNDS_MAX):
        _take_in(settings, soak, run_pairs(context), say)
        if not soak.unfinished:
            return


def _plans(settings: Settings) -> Mapping[str, SweepPlan]:
    """Return the scope of an incremental round by pod."""
    pods, absent = [pod.pod for pod in settings.pods], absent_copies(settings)
    return plans_for(settings.control_dsn, pods, None, utc_now(), absent=absent)


def _compare_late(settings: Settings, soak: Soak, context: ReconcileContext, say: Callable[[str], None]) -> None:
    """Compare without waiting while a lake's consumer is stopped: the result is late, and no alert is sent."""
    impatient = replace(context, lag_seconds_max=IMPATIENT_SECONDS)
    with stopped(settings, f"lake-{settings.pods[0].pod}"):
        _take_in(settings, soak, run_pairs(impatient), say)


def _goes_on(scene: Scene, seconds: float) -> bool:
    """Return whether the run goes on: there is time left, or a required disturbance has not happened yet."""
    if scene.over.is_set():
        return False
    return seconds < scene.seconds or (not scene.is_complete and seconds < scene.seconds + EXTRA_SECONDS_MAX)


def _take_in(settings: Settings, soak: Soak, results: list[PairResult], say: Callable[[str], None]) -> None:
    """Process results as `tieout reconcile` and the sender of alerts do."""
    soak.add(results)
    save_results(settings.control_dsn, results)
    take_in(settings.control_dsn, results, run=f"soak {soak.rounds}")
    tell(settings)
    found = Counter(str(result.verdict) for result in results)
    listed = ", ".join(f"{number} {verdict}" for verdict, number in sorted(found.items()))
    say(f"round {soak.rounds}: {listed}, {sum(result.compared for result in results):,} keys")
    for result in results:
        if result.verdict is Verdict.LATE:
            say(f"  {result.pair} in {result.pod} is late: {result.reason}")


def _events(settings: Settings, since: datetime) -> Counter[str]:
    """Return the number of events since a time, by type; read the lake, because outboxes are pruned."""
    with open_lake(settings, read_only=True) as lake:
        query = "select event_type, count(*) from lake.raw.events where recorded_at >= $since group by event_type"
        return Counter({str(kind): int(number) for kind, number in lake.execute(query, {"since": since}).fetchall()})


def _breaks(settings: Settings) -> int:
    """Return the number of breaks that were ever opened; breaks are never deleted."""
    return sum(ledger.count_breaks(settings.control_dsn, states=tuple(BreakState)).values())


def _alerts(settings: Settings) -> int:
    """Return the number of messages that were ever written, without heartbeats."""
    with psycopg.connect(settings.control_dsn) as connection:
        query = "select count(*) from trust.alerts where kind <> %s"
        row = connection.execute(query, (AlertKind.ALIVE.value,)).fetchone()
    return int(row[0]) if row else 0


def _orders(settings: Settings) -> int:
    """Return the number of orders in all pods."""
    total = 0
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            row = connection.execute("select count(*) from oltp.orders").fetchone()
            total += int(row[0]) if row else 0
    return total


@contextmanager
def _selling(orders_per_second: float) -> Iterator[Settings]:
    """Run a system with traffic, and yield its settings after the first orders."""
    with running_system(orders_per_second=orders_per_second) as settings:
        wait_until(
            lambda: _orders(settings) > 0,
            timeout_seconds=START_SECONDS_MAX,
            failure=lambda: f"No order was placed in {START_SECONDS_MAX:.0f} s.",
        )
        yield settings


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        sys.exit(f"soak: {error}")
