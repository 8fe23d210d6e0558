"""Live traffic: a few orders per second, with all other events of orders and shops, until it is stopped.

    run_live(settings, stop, orders_per_second=5)

Belongs here: the pace, and the handling of errors: refusals are counted, sold-out products are delivered again, and
unreachable pods are retried. Does not belong here: drawing plans (`plans.py`, `staff.py`), executing a plan
(`journeys.py`).
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import msgspec
import psycopg

from contracts.errors import InsufficientStockError, StackError, TieoutError
from contracts.settings import Settings
from oltp.commands.execute import CommandPod, execute
from traffic.command_chains import KeyedCommand
from traffic.generator import expire_reservations, open_shops
from traffic.journeys import Journey, run_beside
from traffic.plans import OrderPlan, OrderSource, SidePlan, units_needed
from traffic.shops import catalog, receive, shop_of
from traffic.staff import StaffSource
from traffic.workers import Pods, Workers

SOURCE = "live"
CUSTOMERS = 500
THREADS = 4
WAIT_SECONDS_MAX = 5.0
"""Longest pause in seconds before an unreachable pod is tried again."""
EXPIRE_EVERY = 50
"""Number of orders between two expiries of due reservations."""
TASK_EVERY = 5
"""Number of orders between two staff tasks."""
DELIVERY_UNITS = 500
"""Units of every product in a delivery; more if one order needs more."""


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result: orders placed, commands by name, refusals by error, and how often a pod was unreachable."""

    seed: int
    orders: int
    commands: dict[str, int]
    refused: dict[str, int]
    unreachable: int


@dataclass(kw_only=True)
class _Live:
    homes: dict[str, str]
    pods: Pods
    scope: str
    stop: threading.Event
    lock: threading.Lock = field(default_factory=threading.Lock)
    commands: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unreachable: int = 0

    def happen(self, plans: list[OrderPlan | SidePlan]) -> None:
        """Run the plans; no TieoutError ends the traffic."""
        for plan in plans:
            try:
                self._attempt(plan)
            except InsufficientStockError as error:
                self._count(Counter(), error)
                self._guarded(lambda plan=plan: self._deliver(plan))  # type: ignore[misc]
            except TieoutError as error:
                self._count(Counter(), error)

    def work(self, task: list[KeyedCommand]) -> None:
        """Run a staff task; a refusal ends the task."""
        for item in task:
            try:
                execute(self._pod(item.command.merchant_id), item.command, idempotency_key=item.key)
            except TieoutError as error:
                self._count(Counter(), error)
                return
            self._count(Counter([type(item.command).__name__]), None)

    def expire(self) -> None:
        """Expire the due reservations of every pod."""
        for pod in sorted(set(self.homes.values())):
            merchants = [merchant_id for merchant_id, home in self.homes.items() if home == pod]
            self._guarded(lambda pod=pod, names=merchants: self._expire(pod, names))  # type: ignore[misc]

    def _expire(self, pod: str, merchants: list[str]) -> None:
        done = expire_reservations(self.pods.pod(pod), merchants)
        self._count(Counter(done.commands), None)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TieoutError as error:
            self._count(Counter(), error)

    def _attempt(self, plan: OrderPlan | SidePlan) -> None:
        pod = self._pod(plan.merchant_id)
        if isinstance(plan, SidePlan):
            self._count(run_beside(pod, plan, self.scope), None)
            return
        journey = Journey(pod=pod, plan=plan, source=self.scope)
        try:
            journey.travel()
        finally:
            self._count(journey.done, None)

    def _deliver(self, plan: OrderPlan | SidePlan) -> None:
        """Receive units of every product of the plan's shop."""
        orders, beside = ([plan], []) if isinstance(plan, OrderPlan) else ([], [plan])
        wanted = units_needed(orders, beside).get(plan.merchant_id, {})
        units = {item.sku: DELIVERY_UNITS + wanted.get(item.sku, 0) for item in catalog(shop_of(plan.merchant_id))[:-1]}
        pod = self._pod(plan.merchant_id)
        delivery = receive(plan.merchant_id, units, f"{self.scope}/receive/{pod.new_uuid()}")
        execute(pod, delivery.command, idempotency_key=delivery.key)
        self._count(Counter([type(delivery.command).__name__]), None)

    def _pod(self, merchant_id: str) -> CommandPod:
        with self.lock:
            return self.pods.pod(self.homes[merchant_id])

    def _count(self, commands: Counter[str], error: TieoutError | None) -> None:
        with self.lock:
            self.commands.update(commands)
            if isinstance(error, StackError):
                self.unreachable += 1
            elif error is not None:
                self.refused[type(error).__name__] += 1


def run_live(
    settings: Settings,
    stop: threading.Event,
    orders_per_second: float = 5.0,
    seed: int | None = None,
    duration_seconds: float | None = None,
) -> LiveReport:
    """Place orders until `stop` is set or the duration is over; return the report.

    Opens missing shops of the generator. When the machine is too slow for the pace, orders are delayed, without a burst
    afterwards. `seed`: None draws a seed; the traffic also depends on the clock.
    """
    live_seed = secrets.randbits(32) if seed is None else seed
    pods = Pods(settings)
    try:
        homes = _opened(settings, stop)
        # The random scope gives two runs with the same seed different order numbers and keys.
        live = _Live(homes=homes, pods=pods, scope=f"{SOURCE}/{secrets.token_hex(4)}", stop=stop)
        if homes:
            _run(live, random.Random(live_seed), orders_per_second, duration_seconds)
    finally:
        pods.close()
    return LiveReport(
        seed=live_seed,
        orders=live.commands["PlaceOrder"],
        commands=dict(sorted(live.commands.items())),
        refused=dict(sorted(live.refused.items())),
        unreachable=live.unreachable,
    )


def _opened(settings: Settings, stop: threading.Event) -> dict[str, str]:
    """Open the shops and retry unreachable pods; return the pod by merchant, or {} when stopped meanwhile."""
    while not stop.is_set():
        try:
            with Workers(settings, 0) as workers:
                return open_shops(settings, workers)
        except (StackError, psycopg.OperationalError):
            stop.wait(WAIT_SECONDS_MAX)
    return {}


def _run(live: _Live, rng: random.Random, orders_per_second: float, duration_seconds: float | None) -> None:
    source = OrderSource(rng, customers=CUSTOMERS)
    staff = StaffSource(random.Random(rng.random()))
    numbers = iter(range(1, 2**62))
    pace = _Pace(1 / orders_per_second, duration_seconds, live.stop)

    def place() -> None:
        while pace.wait():
            with live.lock:
                number = next(numbers)
                name = f"L-{live.scope.partition('/')[2]}-{number}"
                plans: list[OrderPlan | SidePlan] = [source.order(name), *source.beside(name)]
                task = staff.task(f"{live.scope}/staff/{number}") if number % TASK_EVERY == 0 else []
            unreachable = live.unreachable
            live.happen(plans)
            live.work(task)
            if live.unreachable > unreachable:
                live.stop.wait(WAIT_SECONDS_MAX)
            if number % EXPIRE_EVERY == 0:
                live.expire()

    with ThreadPoolExecutor(THREADS, thread_name_prefix="live") as threads:
        endings = [threads.submit(place) for _ in range(THREADS)]
        # An unexpected exception ends all threads and is raised here.
        wait(endings, return_when=FIRST_EXCEPTION)
        pace.close()
    for ending in endings:
        ending.result()
    live.expire()


class _Pace:
    """Lets one order start every `interval_seconds`, over all threads, until it is stopped or the duration is over."""

    def __init__(self, interval_seconds: float, duration_seconds: float | None, stop: threading.Event) -> None:
        self._interval_seconds = interval_seconds
        self._stop = stop
        self._lock = threading.Lock()
        self._next = time.monotonic()
        self._end = None if duration_seconds is None else self._next + duration_seconds

    def close(self) -> None:
        """Let no further order start."""
        self._end = self._next - 1

    def wait(self) -> bool:
        """Wait until the next order may start; return False when no further order may start."""
        with self._lock:
            turn = max(self._next, time.monotonic() - self._interval_seconds)
            self._next = turn + self._interval_seconds
        if self._end is not None and turn >= self._end:
            return False
        self._stop.wait(max(0.0, turn - time.monotonic()))
        return not self._stop.is_set()
