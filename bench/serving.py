"""The cost of the HTTP interface: processor time per request, and a checkout over HTTP against the bare command.

    python -m bench.serving [--orders N] [--reads N] [--cases N] [--json]

Belongs here: processes that serve on a socket (two, as TIEOUT_API_PROCESSES=2 starts them), asked by several
connections; requests that schemathesis makes, by the ten thousand. Does not belong here: commands under concurrency
(`bench/commands.py`). Processor time is that of the serving processes and of PostgreSQL; the clients' stands beside the
rates, which are compared with pgbench's right after. pgbench commits each order by itself; over HTTP, orders that come
at once share a transaction (`oltp/commands/gathering.py`), and the figures say how many.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import psycopg

from api.declaring import Role
from api.keys.store import migrate_keys
from bench.asking import Asked, ask_all
from bench.commands import LOCATION, MERCHANT, open_shop, place, placing_script
from bench.figures import Figure, measured
from bench.pgbench import Run, Script, run_pgbench
from bench.processor import Cost, cost_of, server_seconds
from bench.servers import own_postgres
from contracts.settings import PodSettings, Settings
from contracts.waiting import wait_until
from derived.read_models.migrate import migrate as migrate_read_models
from derived.webhooks.schema import migrate_webhooks
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.directory import migrate_directory
from oltp.store.migrate import migrate
from stack.composition.keys import key_store
from stack.ports import LOOPBACK, free_port
from stack.processes.api_address import is_ready
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from stack.settings import ROOT
from stack.upkeep.serving import run_api

CONNECTIONS = 8
PROCESSES = 2
CLIENTS = 32
"""Connections of the rates, over HTTP and of pgbench: the kernel divides few connections unevenly among processes."""
ROUNDS = 3
SKUS, LINES = 300, 3
RATIO_MAX = 1.25
"""A checkout over HTTP costs at most so many times the bare command, PostgreSQL included."""
PGBENCH_SHARE_MIN = 0.6
"""Checkouts per second over HTTP, at least, as a share of what pgbench does with the same statements in pipelines."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """Serving processes, and how to ask them."""

    settings: Settings
    server: EmbeddedPostgres
    process_ids: tuple[int, ...]
    port: int
    key: str
    product: str


def measure(*, orders: int = 1_000, reads: int = 4_000, cases: int = 20_000) -> list[Figure]:
    """Return the processor time of each kind of request, and the ratio of a checkout."""
    with serving() as served:
        with build_command_pod(served.settings.pods[0], connections_max=CONNECTIONS) as pod:
            _bare(pod, orders // 10 or 1)
            bare = cost_of(served.server, lambda: _bare(pod, orders))
        _checkouts(served, orders // 10 or 1)
        checkout = _cost(served, lambda: _checkouts(served, orders))
        with build_command_pod(served.settings.pods[0], connections_max=1) as pod:
            script = placing_script(served.settings.pods[0], pod, lines=LINES, skus=SKUS).pipelined()
        with _per_transaction(served) as shared:
            rates = [_rates(served, script, orders) for _ in range(ROUNDS)]
        costs = {
            name: cost_of_reads(served, [path] * reads)
            for name, path in {
                "health": "/v1/health",
                "product page of 300 variants": f"/v1/products/{served.product}",
                "account page": "/v1/customers/c/account",
            }.items()
        }
    found = [figure for name, cost in costs.items() for figure in _figures(name, cost, reads)]
    found += _figures("bare command, place an order of 3 lines", bare, orders)
    found += _figures("checkout of the same order over HTTP", checkout, orders)
    ratio = (checkout.client + checkout.server) / (bare.client + bare.server)
    found.append(Figure(name="ratio", value=ratio, unit="", goal=f"<= {RATIO_MAX}", is_met=ratio <= RATIO_MAX))
    found += _rate_figures(rates, orders)
    found.append(Figure(name="orders of a transaction over HTTP", value=shared[0], unit=""))
    return [*found, *([_generated(cases)] if cases else [])]


def _rates(served: Served, script: Script, orders: int) -> tuple[Asked, Run]:
    """Return what asking for checkouts took, and pgbench with the same statements, right after."""
    (settings,) = served.settings.pods
    over_http = _checkouts(served, orders, CLIENTS)
    return over_http, run_pgbench(settings, script, clients=CLIENTS, seconds=over_http.seconds)


@contextmanager
def _per_transaction(served: Served) -> Iterator[list[float]]:
    """Yield a list that holds, after the block, how many orders a transaction of the block's checkouts had."""
    shared: list[float] = []
    query = """
    select count(*)::float / count(distinct outbox.xid::text) from oltp.outbox
    inner join oltp.orders on aggregate_id = order_id::text
    where aggregate_type = 'order' and order_number like 'W%%' and position > %s
    """
    with psycopg.connect(served.settings.pods[0].reader_dsn, autocommit=True) as connection:
        row = connection.execute("select coalesce(max(position), 0) from oltp.outbox").fetchone()
        yield shared
        share = connection.execute(query, row).fetchone()
        shared.append(share[0] if share else 0.0)


def _rate_figures(rates: Sequence[tuple[Asked, Run]], orders: int) -> list[Figure]:
    over_http = [orders / asked.seconds for asked, _ in rates]
    reference = [run.per_second for _, run in rates]
    share = median(one / other for one, other in zip(over_http, reference, strict=True))
    clients = median(asked.client / orders * 1e6 for asked, _ in rates)
    goal = f">= {PGBENCH_SHARE_MIN}"
    name, compared = f"checkouts over HTTP, {PROCESSES} processes", "pgbench, same statements, pipelined"
    return [
        Figure(name=name, value=median(over_http), unit="orders/s"),
        Figure(name=f"{name}: clients", value=clients, unit="us"),
        Figure(name=compared, value=median(reference), unit="orders/s"),
        Figure(name=f"{compared}: clients", value=median(run.client_us for _, run in rates), unit="us"),
        Figure(name="ratio", value=share, unit="", goal=goal, is_met=share >= PGBENCH_SHARE_MIN),
    ]


def _figures(name: str, cost: Cost, number: int) -> list[Figure]:
    return [
        Figure(name=name, value=cost.client / number * 1e6, unit="us"),
        Figure(name=f"{name}: PostgreSQL", value=cost.server / number * 1e6, unit="us"),
    ]


@contextmanager
def serving() -> Iterator[Served]:
    """Yield processes that serve one shop in one pod with fsync on; stop and delete everything afterwards."""
    with own_postgres() as (server, _), tempfile.TemporaryDirectory() as folder:
        settings = _settings(server, Path(folder))
        with build_command_pod(settings.pods[0], control_dsn=settings.control_dsn) as pod:
            open_shop(pod, SKUS)
            with pod.connections.connection() as connection:
                row = connection.execute("select product_id::text from oltp.products").fetchone()
        made = key_store(settings).create(Role.STOREFRONT, MERCHANT, "bench")
        port = free_port()
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=_serve, args=(settings, port)) for _ in range(PROCESSES)]
        for child in children:
            child.start()
        try:
            wait_until(
                lambda: all(_listens(child.pid) for child in children) and is_ready(f"http://{LOOPBACK}:{port}"),
                timeout_seconds=60,
                failure=lambda: "The interface does not answer.",
            )
            yield Served(
                settings=settings,
                server=server,
                process_ids=tuple(child.pid or 0 for child in children),
                port=port,
                key=made.text or "",
                product=row[0] if row else "",
            )
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.join(30)


def _listens(process_id: int | None) -> bool:
    return any(one.status == psutil.CONN_LISTEN for one in psutil.Process(process_id).net_connections("tcp4"))


def _settings(server: EmbeddedPostgres, folder: Path) -> Settings:
    roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE, *(item.role for item in bootstrap.CONTROL_DATABASES))
    passwords = {role: f"{role}-password" for role in (*roles, bootstrap.QUERY_ROLE)}
    bootstrap.prepare_pod(server.superuser_dsn(), passwords)
    bootstrap.prepare_control(server.superuser_dsn(), passwords)
    owner, app, relay, reader = (
        server.dsn(role, passwords[role], bootstrap.POD_DATABASE) for role in bootstrap.POD_ROLES
    )
    migrate(owner)
    control, catalog, models, dagster = (
        server.dsn(item.role, passwords[item.role], item.database) for item in bootstrap.CONTROL_DATABASES
    )
    migrate_directory(control)
    migrate_keys(control)
    migrate_webhooks(control)
    migrate_read_models(models)
    return Settings(
        var_dir=folder,
        pods=(PodSettings(pod="pod1", owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader),),
        control_dsn=control,
        catalog_dsn=catalog,
        read_models_dsn=models,
        dagster_dsn=dagster,
        log_url="redis://127.0.0.1:1/0",
        lake_data_path=str(folder),
        lake_backup_path=folder,
        api_pepper="only for a measurement, on this machine",
        api_processes=PROCESSES,
        api_requests_per_second=1_000_000,
    )


def _serve(settings: Settings, port: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run_api(settings, stop, port=port)


def _cost(served: Served, work: Callable[[], object]) -> Cost:
    """Return the processor time of the serving processes and of PostgreSQL for some work."""
    before, behind = _serving_seconds(served), server_seconds(served.server)
    work()
    return Cost(client=_serving_seconds(served) - before, server=server_seconds(served.server) - behind)


def _serving_seconds(served: Served) -> float:
    times = [psutil.Process(process_id).cpu_times() for process_id in served.process_ids]
    return sum(one.user + one.system for one in times)


def _bare(pod: CommandPod, number: int) -> None:
    def one(index: int) -> None:
        key = str(uuid.uuid4())
        execute(pod, place(_items(index), key), idempotency_key=key)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(one, range(number)))


def _items(index: int) -> list[int]:
    return [(index * LINES + line) % SKUS for line in range(LINES)]


def _checkouts(served: Served, number: int, connections: int = CONNECTIONS) -> Asked:
    def body(index: int) -> bytes:
        lines = [{"sku": line.sku, "quantity": 1} for line in place(_items(index), "n").lines]
        return json.dumps({"lines": lines, "location_id": LOCATION, "customer_id": "c"}).encode()

    requests = [_request(served, "POST", "/v1/checkouts", body(index)) for index in range(number)]
    return ask_all(served.port, requests, connections=connections, status=201)


def cost_of_reads(served: Served, paths: Sequence[str]) -> Cost:
    """Return what reading these paths, over several connections, takes of the serving processes and PostgreSQL."""
    requests = [_request(served, "GET", path, b"") for path in paths]
    return _cost(served, lambda: ask_all(served.port, requests, connections=CONNECTIONS, status=200))


def _request(served: Served, method: str, path: str, body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}:{served.port}", f"Authorization: Bearer {served.key}"]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", f"Idempotency-Key: {uuid.uuid4()}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _generated(cases: int) -> Figure:
    """Return how many of the requests that schemathesis made were answered as the document says: all, or none."""
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/integration/api/test_generated_requests.py"],
        cwd=ROOT,
        env={**os.environ, "TIEOUT_GENERATED_CASES": str(cases), "PYTHONPATH": str(ROOT)},
        check=False,
        stdout=sys.stderr,
    )
    is_met = outcome.returncode == 0
    name = "requests of schemathesis that were answered as the document says"
    return Figure(name=name, value=float(cases if is_met else 0), unit="", goal=f"= {cases}", is_met=is_met)


if __name__ == "__main__":
    sys.exit(
        measured(
            measure,
            orders="checkouts of each kind",
            reads="reads of each kind",
            cases="requests that schemathesis makes; 0: none",
        )
    )
