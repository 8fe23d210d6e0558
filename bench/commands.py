"""The throughput of commands: orders placed per second, compared with pgbench running the same statements.

    python -m bench.commands [--seconds N] [--lines N] [--skus N] [--json]

Belongs here: the place-order command under concurrency, the same statements in pgbench, and one hot SKU compared with
many. Does not belong here: how fast the events are propagated. Absolute figures depend on the machine and its load;
only ratios within one run are comparable.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from bench.figures import Figure, measured
from bench.pgbench import Script, added, rows_of, run_pgbench
from bench.pgbench_script import FIRST_NUMBER, Recorder, render
from bench.servers import own_postgres
from contracts.clock import utc_now
from contracts.events.merchant import TaxRate
from contracts.ids import uuid7
from contracts.settings import PodSettings
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from oltp.gateway import EmbeddedGateway
from oltp.store.migrate import migrate
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres

MERCHANT = "bench"
LOCATION = "main"
UNITS = 1_000_000_000
"""Stock per SKU: more than a run can sell."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """The load: `clients` threads in `processes` processes sell `lines` out of `skus` SKUs for `seconds`."""

    clients: int
    processes: int
    lines: int
    skus: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement: its transactions per second, those of its reference, and the ratio that is the goal."""

    work: str
    per_second: float
    reference: str
    reference_per_second: float
    goal: float

    @property
    def ratio(self) -> float:
        """Return the measurement divided by its reference."""
        return self.per_second / self.reference_per_second


def measure(*, seconds: float = 8.0, lines: int = 3, skus: int = 1_000) -> list[Figure]:
    """Return every measurement, on a fresh server with fsync on."""
    with bench_pod() as settings, build_command_pod(settings) as pod:
        open_shop(pod, skus)
        script = placing_script(settings, pod, lines=lines, skus=skus)
        load = Load(clients=8, processes=2, lines=lines, skus=skus, seconds=seconds)
        orders_per_second(settings, Load(clients=8, processes=2, lines=lines, skus=skus, seconds=1.0))
        orders = orders_per_second(settings, load)
        plain = run_pgbench(settings, script, clients=load.clients, seconds=seconds).per_second
        in_pipeline = run_pgbench(settings, script.pipelined(), clients=load.clients, seconds=seconds).per_second
        hot = orders_per_second(settings, Load(clients=32, processes=4, lines=1, skus=1, seconds=seconds))
        spread = orders_per_second(settings, Load(clients=32, processes=4, lines=1, skus=skus, seconds=seconds))
    name = f"place order, {lines} lines, 8 clients in 2 processes"
    results = [
        Result(
            work=name,
            per_second=orders,
            reference="pgbench, same statements",
            reference_per_second=plain,
            goal=0.6,
        ),
        Result(
            work=name,
            per_second=orders,
            reference="pgbench, same statements, pipelined",
            reference_per_second=in_pipeline,
            goal=0.0,
        ),
        Result(
            work="place order, one hot SKU, 32 clients in 4 processes",
            per_second=hot,
            reference=f"the same over {skus} SKUs",
            reference_per_second=spread,
            goal=0.7,
        ),
    ]
    return [figure for result in results for figure in _figures_of(result)]


def _figures_of(result: Result) -> list[Figure]:
    ratio, goal = result.ratio, f">= {result.goal}" if result.goal else ""
    return [
        Figure(name=f"reference: {result.reference}", value=result.reference_per_second, unit="orders/s"),
        Figure(name=result.work, value=result.per_second, unit="orders/s"),
        Figure(name="ratio", value=ratio, unit="", goal=goal, is_met=ratio >= result.goal if result.goal else None),
    ]


@contextmanager
def bench_pod() -> Iterator[PodSettings]:
    """Yield a migrated pod on its own server with fsync; delete both afterwards."""
    with bench_pod_with_server() as (settings, _):
        yield settings


@contextmanager
def bench_pod_with_server() -> Iterator[tuple[PodSettings, EmbeddedPostgres]]:
    """Yield the same with its server."""
    roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE)
    with own_postgres() as (server, _):
        passwords = {role: f"{role}-password" for role in roles}
        bootstrap.prepare_pod(server.superuser_dsn(), passwords)
        owner, app, relay, reader, witness = (
            server.dsn(role, passwords[role], bootstrap.POD_DATABASE) for role in roles
        )
        migrate(owner)
        settings = PodSettings(
            pod="pod1", owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader, witness_dsn=witness
        )
        yield settings, server


def variant_id_of(item: int) -> str:
    """Return the variant's id of a number of a SKU."""
    return f"0eeeeeee-0000-7000-8000-{FIRST_NUMBER + item}"


def _sku(item: int) -> str:
    return f"SKU-{FIRST_NUMBER + item}"


def open_shop(pod: CommandPod, skus: int) -> None:
    """Register the merchant with `skus` products that never sell out."""
    execute(
        pod,
        RegisterMerchant(
            merchant_id=MERCHANT,
            name="Bench",
            currency="GBP",
            is_tax_inclusive=True,
            jurisdiction="GB",
            tax_rates=[TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)],
        ),
        idempotency_key="register",
    )
    variants = [
        VariantInput(variant_id=variant_id_of(item), sku=_sku(item), title=_sku(item), unit_price_micro=1_990_000)
        for item in range(skus)
    ]
    product = UpsertProduct(merchant_id=MERCHANT, product_id=str(uuid7()), title="Things", variants=variants)
    execute(pod, product, idempotency_key="product")
    stock = [StockInput(variant_id=variant_id_of(item), quantity=UNITS) for item in range(skus)]
    receive = ReceiveStock(merchant_id=MERCHANT, location_id=LOCATION, lines=stock)
    execute(pod, receive, idempotency_key="stock")


def place(items: list[int], order_number: str, *, customer_id: str = "c") -> PlaceOrder:
    """Return the command that orders one of each item (numbers of SKUs)."""
    return PlaceOrder(
        merchant_id=MERCHANT,
        order_number=order_number,
        customer_id=customer_id,
        location_id=LOCATION,
        lines=[OrderLineInput(sku=_sku(item), quantity=1) for item in items],
    )


def orders_per_second(settings: PodSettings, load: Load) -> float:
    """Run the command from several processes and return the orders placed per second."""
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(load.processes), context.Queue()
    children = [context.Process(target=_sell, args=(settings, load, barrier, counts)) for _ in range(load.processes)]
    for child in children:
        child.start()
    total = sum(counts.get() for _ in children)
    for child in children:
        child.join()
    return float(total)


def _sell(settings: PodSettings, load: Load, barrier: Any, counts: Any) -> None:
    """Sell from this process's share of the clients; put the orders per second into `counts`."""
    threads = load.clients // load.processes
    done = [0] * threads
    with build_command_pod(settings, connections_max=threads) as pod:
        numbers, lock = itertools.count(), threading.Lock()

        def one(source: random.Random) -> None:
            with lock:
                number = f"{uuid.uuid4()}-{next(numbers)}"
            items = [source.randrange(load.skus) for _ in range(load.lines)]
            execute(pod, place(items, number), idempotency_key=number)

        def client(index: int) -> None:
            source = random.Random(index)
            one(source)
            ready.wait()
            while time.perf_counter() < deadline[0]:
                one(source)
                done[index] += 1

        deadline = [0.0]
        ready = threading.Barrier(threads + 1)
        clients = [threading.Thread(target=client, args=(index,)) for index in range(threads)]
        for thread in clients:
            thread.start()
        barrier.wait()
        started = time.perf_counter()
        deadline[0] = started + load.seconds
        ready.wait()
        for thread in clients:
            thread.join()
        counts.put(sum(done) / (time.perf_counter() - started))


def placing_script(settings: PodSettings, pod: CommandPod, *, lines: int, skus: int) -> Script:
    """Place one order, record its statements, and return them as a pgbench script over all SKUs, with its rows."""
    recorder = Recorder()
    share = skus // lines
    items = [share * line for line in range(lines)]
    recorded = ConnectionPool(
        settings.app_dsn,
        min_size=1,
        max_size=1,
        kwargs={"options": "-c timezone=UTC", "cursor_factory": recorder.cursor_factory()},
        configure=pod.connections._configure,
        open=True,
    )
    with recorded:
        recording = CommandPod(
            pod=pod.pod,
            connections=recorded,
            gateway=EmbeddedGateway(),
            directory=None,
            clock=utc_now,
            new_uuid=recorder.new_uuid,
        )
        key, number = str(recorder.new_uuid()), str(recorder.new_uuid())
        before = rows_of(settings)
        execute(recording, place(items, number), idempotency_key=key)
        rows = added(before, rows_of(settings))
        if "orders" not in rows:
            raise SystemExit("The recorded command placed no order: its ids were used before, so record it once.")
        prelude = "\n".join(
            f"\\set item{line} random({FIRST_NUMBER + item}, {FIRST_NUMBER + item + share - 1})"
            for line, item in enumerate(items)
        )
        replace = {str(FIRST_NUMBER + item): f"item{line}" for line, item in enumerate(items)}
        with recorded.connection() as connection:
            connection.cursor_factory = psycopg.Cursor
            return Script(text=render(recorder, prelude, replace, connection), rows=rows)


if __name__ == "__main__":
    sys.exit(
        measured(
            measure,
            seconds="length of each measurement",
            lines="lines per order in the comparison with pgbench",
            skus="SKUs of the merchant",
        )
    )
