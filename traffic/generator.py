"""The seeded generator: shops, stock, and orders with everything that happens to orders.

    place_orders(settings, orders=2_000, seed=1)

Belongs here: a whole run, on an empty pod or after earlier runs. Does not belong here: drawing plans (`plans.py`),
executing a plan (`journeys.py`), traffic without an end (`live.py`).

The same seed and size on the same database give the same orders with the same ids. Order numbers continue after the
existing ones, and the drawn orders depend on the first number. So a second run places new orders in the same shops.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import psycopg

from contracts.errors import ConflictError
from contracts.settings import Settings
from oltp.commands.execute import CommandPod
from oltp.directory import placements
from oltp.expiry import expire_due
from traffic.command_chains import KeyedCommand, batched_by_pod, run_commands, run_commands_by_pod
from traffic.journeys import Journey, run_beside
from traffic.plans import ORDERS_PER_CUSTOMER, OrderPlan, OrderSource, SidePlan, units_needed
from traffic.progress import OnProgress, no_progress
from traffic.shops import SHOPS, create_products, entitle_shop, receive, register_shop
from traffic.statistics import GrowingTables
from traffic.workers import Workers

SOURCE = "generator"
BATCH = 10
COMMANDS_AT_ONCE = 50
SLACK_UNITS = 20
"""Units of every product that are received in addition to the needed ones, so that reserved units never block an order.
"""

_HIGHEST_NUMBER = """
select coalesce(max(substring(order_number from 3)::bigint), 0) from oltp.orders where source = 'generator'
"""
_FURNISHED = """
select merchant_id from oltp.merchant_entitlements where merchant_id = any(%s) and effective_level = 1
"""
"""Merchants whose trial was withdrawn, which is the last step of opening a shop."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All plans of one run."""

    seed: int
    first_number: int
    orders: list[OrderPlan]
    beside: list[SidePlan]

    @property
    def scope(self) -> str:
        """Return the prefix of the run's keys; runs of other sizes draw other orders with the same numbers."""
        return f"{SOURCE}/{self.seed}/{self.first_number}/{len(self.orders)}"


class GeneratorReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run: orders, commands by name, and refusals (mostly for units that are sold out)."""

    seed: int
    orders: int
    first_order_number: str
    commands: dict[str, int]
    refused: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one batch."""

    orders: int
    commands: dict[str, int]
    refused: int


def generate(*, orders: int, seed: int, first_number: int = 1) -> Plan:
    """Return the plans of `orders` orders and of the side events; pure: the same arguments give the same plan."""
    source = OrderSource(random.Random(f"{seed}/{first_number}"), customers=orders // ORDERS_PER_CUSTOMER)
    numbers = [f"G-{number:07d}" for number in range(first_number, first_number + orders)]
    placed = [source.order(number) for number in numbers]
    beside = [plan for number in numbers for plan in source.beside(number)]
    return Plan(seed=seed, first_number=first_number, orders=placed, beside=beside)


def place_orders(
    settings: Settings,
    *,
    orders: int = 2_000,
    seed: int = 1,
    on_progress: OnProgress = no_progress,
    processes: int | None = None,
) -> GeneratorReport:
    """Run the generator against the pods; existing shops are used, missing shops are opened.

    `processes`: the number of worker processes (default: one more than processors; 0: run in the caller's process). The
    pods must be migrated, and the directory must exist.
    """
    with Workers(settings, processes) as workers:
        homes = open_shops(settings, workers, on_progress)
        plan = generate(orders=orders, seed=seed, first_number=_next_number(settings))
        run_commands_by_pod(workers, homes, deliveries(plan), "receiving stock", on_progress, at_once=1)
        done = list(_run_plan(settings, workers, homes, plan, on_progress))
    commands: Counter[str] = Counter()
    for part in done:
        commands.update(part.commands)
    return GeneratorReport(
        seed=seed,
        orders=sum(part.orders for part in done),
        first_order_number=f"G-{plan.first_number:07d}",
        commands=dict(sorted(commands.items())),
        refused=sum(part.refused for part in done),
    )


def open_shops(settings: Settings, workers: Workers, on_progress: OnProgress = no_progress) -> dict[str, str]:
    """Register and furnish the missing shops; return the pod of every shop. The largest shop has a pod alone."""
    placed = {placement.merchant_id: placement.pod for placement in placements(settings.control_dsn)}
    names = [pod.pod for pod in settings.pods]
    homes = {
        shop.merchant_id: placed.get(shop.merchant_id, names[0] if number == 0 else names[-1])
        for number, shop in enumerate(SHOPS)
    }
    missing = _unfurnished(settings, homes)
    new = [shop for shop in SHOPS if shop.merchant_id in missing]
    run_commands_by_pod(
        workers, homes, [register_shop(shop) for shop in new], "opening shops", on_progress, at_once=COMMANDS_AT_ONCE
    )
    products = [command for shop in new for command in create_products(shop)]
    run_commands_by_pod(workers, homes, products, "creating products", on_progress, at_once=COMMANDS_AT_ONCE)
    # Keep the grants of one shop in one batch, because they depend on each other.
    batches = ((homes[shop.merchant_id], entitle_shop(shop)) for shop in new)
    for _ in workers.run(run_commands, batches):
        pass
    return homes


def deliveries(plan: Plan) -> list[KeyedCommand]:
    """Return the stock that the plan needs, one delivery per shop."""
    needed = units_needed(plan.orders, plan.beside)
    return [
        receive(
            merchant_id,
            {sku: quantity + SLACK_UNITS for sku, quantity in units.items()},
            f"{plan.scope}/receive",
        )
        for merchant_id, units in needed.items()
    ]


def expire_reservations(pod: CommandPod, merchant_ids: Sequence[str]) -> Done:
    """Let reservations and gift cards expire whose time is over."""
    expired = expire_due(pod, merchant_ids=merchant_ids)
    return Done(orders=0, commands={"expired": expired}, refused=0)


def _run_plan(
    settings: Settings, workers: Workers, homes: dict[str, str], plan: Plan, on_progress: OnProgress
) -> Iterator[Done]:
    work: list[OrderPlan | SidePlan] = [*plan.orders, *plan.beside]
    # Mix the side plans with the orders; the seed determines the shuffle too.
    random.Random(plan.seed).shuffle(work)
    placed = 0
    with GrowingTables(settings.pods) as statistics:
        for done in workers.run(
            _run_batch, _scoped(plan.scope, batched_by_pod(work, lambda item: homes[item.merchant_id], BATCH))
        ):
            placed += done.orders
            statistics.grown_to(placed)
            on_progress("placing orders", placed, len(plan.orders))
            yield done
    by_pod = {pod: [name for name, home in homes.items() if home == pod] for pod in sorted(set(homes.values()))}
    yield from workers.run(expire_reservations, by_pod.items())


def _run_batch(pod: CommandPod, batch: tuple[str, list[OrderPlan | SidePlan]]) -> Done:
    source, plans = batch
    commands: Counter[str] = Counter()
    refused = 0
    for plan in plans:
        if isinstance(plan, SidePlan):
            done, is_refused = attempt_beside(pod, plan, source)
        else:
            done, is_refused = attempt_order(pod, plan, source)
        commands.update(done)
        refused += is_refused
    return Done(orders=commands["PlaceOrder"], commands=dict(commands), refused=refused)


def attempt_order(pod: CommandPod, plan: OrderPlan, source: str) -> tuple[Counter[str], bool]:
    """Run all commands of an order; return their counts by name, and whether one was refused."""
    journey = Journey(pod=pod, plan=plan, source=source)
    try:
        return journey.travel(), False
    except ConflictError:
        return journey.done, True


def attempt_beside(pod: CommandPod, plan: SidePlan, source: str) -> tuple[Counter[str], bool]:
    """Run a side plan; return the count of its command by name, and whether it was refused."""
    try:
        return run_beside(pod, plan, source), False
    except ConflictError:
        return Counter(), True


def _unfurnished(settings: Settings, homes: dict[str, str]) -> set[str]:
    """Return the shops that are missing, or that an interrupted run left without their last step."""
    furnished: set[str] = set()
    for pod in settings.pods:
        merchants = [merchant_id for merchant_id, home in homes.items() if home == pod.pod]
        with psycopg.connect(pod.app_dsn) as connection:
            rows = connection.execute(_FURNISHED, (merchants,)).fetchall()
        furnished.update(merchant_id for (merchant_id,) in rows)
    return set(homes) - furnished


def _next_number(settings: Settings) -> int:
    highest = 0
    for pod in settings.pods:
        with psycopg.connect(pod.app_dsn) as connection:
            row = connection.execute(_HIGHEST_NUMBER).fetchone()
        highest = max(highest, row[0] if row else 0)
    return highest + 1


def _scoped(
    scope: str, batches: Iterable[tuple[str, list[OrderPlan | SidePlan]]]
) -> Iterator[tuple[str, tuple[str, list[OrderPlan | SidePlan]]]]:
    for pod, batch in batches:
        yield pod, (scope, batch)
