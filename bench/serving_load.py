"""Checkouts and page reads over HTTP on a system that `tieout up` has started, with everything running.

    python -m bench.serving_load [--seconds N] [--rounds N] [--clients N] [--json]

In the same run: with the cache, without it, and with its server killed half-way; and with reconciler and witnesses
stopped and going, in turns. Belongs here: that load, and whether all of it still ties afterwards. Does not belong here:
the cost of one request (`bench/serving.py`). The clients take their part of the same processors.
"""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import random
import signal
import statistics
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import psutil

from api.declaring import Role
from bench.commands import LOCATION, MERCHANT, UNITS
from bench.figures import Figure, measured
from bench.looking import Workers
from bench.started import started_system, tieout
from contracts.events.merchant import TaxRate
from contracts.ids import uuid7
from contracts.settings import PodSettings, Settings
from contracts.waiting import wait_until
from drills.damages.outcomes import unsettled
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from stack.composition import session
from stack.composition.keys import key_store
from stack.ports import LOOPBACK, free_port
from stack.processes.api_address import api_url, is_ready
from stack.processes.supervision import Supervisor
from stack.processes.workers import RECONCILER, WITNESS
from stack.servers.embedded import embedded_servers
from stack.upkeep.serving import run_api

PRODUCTS, VARIANTS = 60, 5
LINES = 3
CUSTOMERS = 500
LOST_SHARE_MAX = 0.05
WITHOUT_LIMITS = {"TIEOUT_API_REQUESTS_PER_SECOND": "1000000"}
SHED = (429, 503)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Where the shop is asked, and what it sells."""

    address: str
    key: str
    products: tuple[str, ...]


@dataclass(kw_only=True)
class Asked:
    """What one kind of request got: its seconds, and how many answers had another status than expected."""

    seconds: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What the clients got in some seconds."""

    seconds: float
    checkouts: Asked
    reads: Asked

    @property
    def rate(self) -> float:
        """Return the checkouts per second."""
        return len(self.checkouts.seconds) / self.seconds


def measure(*, seconds: int = 20, rounds: int = 3, clients: int = 8) -> list[Figure]:
    """Return the rates and times of every phase."""
    with session.ended_by_signals(), _system() as (settings, shop):
        load(shop, seconds / 4, clients)
        workers = Workers(settings=settings)
        figures = _figures("cache on", load(shop, seconds, clients))
        figures += _taken(workers)
        figures += _with_and_without(settings, shop, seconds, rounds, clients)
        figures += _figures("cache killed half-way", _killed_half_way(settings, shop, seconds, clients))
        with _uncached(settings, shop) as other:
            load(other, seconds / 4, clients)
            figures += _figures("cache off", load(other, seconds, clients))
        tieout(settings.var_dir, "reconcile")
        left = len(unsettled(settings.control_dsn))
    return [*figures, Figure(name="breaks after all of it", value=left, unit="", goal="= 0", is_met=left == 0)]


@contextmanager
def _system() -> Iterator[tuple[Settings, Shop]]:
    """Yield a system with everything running, and a shop in its first pod whose stock does not run out."""
    with started_system(orders=100, has_traffic=True, settings=WITHOUT_LIMITS) as settings:
        products = _open_shop(settings, settings.pods[0])
        made = key_store(settings).create(Role.STOREFRONT, MERCHANT, "bench")
        yield settings, Shop(address=api_url(settings) or "", key=made.text or "", products=products)


def _open_shop(settings: Settings, pod: PodSettings) -> tuple[str, ...]:
    products = tuple(str(uuid7()) for _ in range(PRODUCTS))
    with build_command_pod(pod, control_dsn=settings.control_dsn) as commands:
        rates = [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)]
        execute(
            commands,
            RegisterMerchant(
                merchant_id=MERCHANT,
                name="Bench",
                currency="GBP",
                is_tax_inclusive=True,
                jurisdiction="GB",
                tax_rates=rates,
            ),
            idempotency_key="bench/register",
        )
        for number, product_id in enumerate(products):
            _offer(commands, number, product_id)
    return products


def _offer(commands: Any, number: int, product_id: str) -> None:
    variants = [
        VariantInput(
            variant_id=str(uuid7()),
            sku=_sku(number * VARIANTS + place),
            title=f"Thing {number}, size {place}",
            unit_price_micro=1_990_000,
        )
        for place in range(VARIANTS)
    ]
    product = UpsertProduct(merchant_id=MERCHANT, product_id=product_id, title=f"Thing {number}", variants=variants)
    execute(commands, product, idempotency_key=f"bench/product-{number}")
    stock = [StockInput(variant_id=variant.variant_id, quantity=UNITS) for variant in variants]
    receive = ReceiveStock(merchant_id=MERCHANT, location_id=LOCATION, lines=stock)
    execute(commands, receive, idempotency_key=f"bench/stock-{number}")


def _sku(item: int) -> str:
    return f"LOAD-{item}"


def load(shop: Shop, seconds: float, clients: int) -> Phase:
    """Order and read from `clients` connections each, as fast as answers come; return what they got."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    children = [
        context.Process(target=_client, args=(kind, shop, seconds, clients, barrier, results))
        for kind in ("checkouts", "reads")
    ]
    for child in children:
        child.start()
    found = dict(results.get(timeout=seconds + 120) for _ in children)
    for child in children:
        child.join()
    return Phase(seconds=seconds, **found)


def _client(kind: str, shop: Shop, seconds: float, clients: int, barrier: Any, results: Any) -> None:
    asked = Asked()
    barrier.wait()
    end = time.monotonic() + seconds

    def ask(seed: int) -> None:
        dice = random.Random(seed)
        requests = (_checkout(shop, dice) if kind == "checkouts" else _read(shop, dice) for _ in itertools.count())
        _ask(shop, requests, end, asked)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    results.put((kind, asked))


def _ask(shop: Shop, requests: Iterator[tuple[str, str, dict[str, Any] | None]], end: float, asked: Asked) -> None:
    where = urlsplit(shop.address)
    connection = http.client.HTTPConnection(where.hostname or LOOPBACK, where.port, timeout=60)
    headers = {"Authorization": f"Bearer {shop.key}", "Content-Type": "application/json"}
    while time.monotonic() < end:
        method, path, body = next(requests)
        keyed = {"Idempotency-Key": str(uuid.uuid4())} if body else {}
        began = time.perf_counter()
        try:
            connection.request(method, path, body=json.dumps(body) if body else None, headers=headers | keyed)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            asked.refused[f"{type(error).__name__} of {_kind(path)}"] += 1
            connection.close()
            continue
        if answer.status in (200, 201):
            asked.seconds.append(time.perf_counter() - began)
        else:
            asked.refused[f"{answer.status} {_type_of(text)} of {_kind(path)}"] += 1
    connection.close()


def _kind(path: str) -> str:
    """Return what is asked for, without which one: `checkouts`, `products`, `search` or `customers`."""
    return path.split("?")[0].split("/")[2]


def _type_of(text: bytes) -> str:
    try:
        return str(json.loads(text).get("type", "")).rsplit("/", 1)[-1]
    except ValueError:
        return "unreadable"


def _checkout(shop: Shop, dice: random.Random) -> tuple[str, str, dict[str, Any]]:
    items = dice.sample(range(PRODUCTS * VARIANTS), LINES)
    body = {
        "lines": [{"sku": _sku(item), "quantity": 1} for item in items],
        "location_id": LOCATION,
        "customer_id": f"customer-{dice.randrange(CUSTOMERS)}",
        "payment_token": "tok_card",
    }
    return "POST", "/v1/checkouts", body


def _read(shop: Shop, dice: random.Random) -> tuple[str, str, None]:
    """Return what a shopper reads: mostly product pages, the first ones more than the last."""
    number = dice.random()
    if number < 0.7:
        return "GET", f"/v1/products/{shop.products[int(PRODUCTS * dice.random() ** 3)]}", None
    if number < 0.9:
        return "GET", f"/v1/search?q=thing&limit={dice.choice([10, 20])}", None
    return "GET", f"/v1/customers/customer-{dice.randrange(CUSTOMERS)}/account", None


def _with_and_without(settings: Settings, shop: Shop, seconds: int, rounds: int, clients: int) -> list[Figure]:
    """Return what checkouts lose by reconciler and witnesses: the median over turns without them and with them."""
    shares = []
    for _ in range(rounds):
        with _resting(settings, (RECONCILER, WITNESS)):
            without = load(shop, seconds, clients)
        shares.append(1 - load(shop, seconds, clients).rate / without.rate)
    lost = statistics.median(shares)
    return [
        Figure(
            name="checkouts lost to reconciler and witnesses",
            value=lost,
            unit="",
            goal=f"<= {LOST_SHARE_MAX}",
            is_met=lost <= LOST_SHARE_MAX,
        ),
        *(Figure(name=f"  turn {number}", value=share, unit="") for number, share in enumerate(shares, start=1)),
    ]


@contextmanager
def _resting(settings: Settings, names: Sequence[str]) -> Iterator[None]:
    """Stop these workers and what they have started, and let them go on afterwards."""
    states = {state.name: state.process_id for state in Supervisor(var_dir=settings.var_dir).states()}
    stopped = []
    for name in names:
        process = psutil.Process(states[name] or 0)
        stopped += [process, *process.children(recursive=True)]
    try:
        for process in stopped:
            process.suspend()
        yield
    finally:
        for process in stopped:
            process.resume()


def _killed_half_way(settings: Settings, shop: Shop, seconds: int, clients: int) -> Phase:
    """Load the shop, and kill the cache's server after half of the time; whoever keeps it up starts it again."""
    cache = embedded_servers(settings.var_dir).cache
    timer = threading.Timer(seconds / 2, cache.kill)
    timer.start()
    try:
        return load(shop, seconds, clients)
    finally:
        timer.join()


@contextmanager
def _uncached(settings: Settings, shop: Shop) -> Iterator[Shop]:
    """Yield the same shop, served by a process without a cache."""
    port = free_port()
    values = replace(settings, cache_url="", api_requests_per_second=1_000_000)
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(values, port))
    with ExitStack() as stack:
        child.start()
        stack.callback(child.join, 30)
        stack.callback(child.terminate)
        address = f"http://{LOOPBACK}:{port}"
        wait_until(
            lambda: is_ready(address), timeout_seconds=60, failure=lambda: "The interface without a cache is not up."
        )
        yield replace(shop, address=address)


def _serve(settings: Settings, port: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run_api(settings, stop, port=port)


def _figures(name: str, phase: Phase) -> list[Figure]:
    """Return rate, times, and what was not answered as it must: shed reads are, failed checkouts are not."""
    failed = phase.checkouts.refused + phase.reads.refused
    shed = sum(number for what, number in phase.reads.refused.items() if what.startswith(tuple(map(str, SHED))))
    wrong = failed.total() - shed
    for what, number in failed.items():
        print(f"{name}: {number} x {what}", file=sys.stderr, flush=True)
    return [
        *_times(f"{name}: checkouts", phase.checkouts, phase.seconds),
        *_times(f"{name}: reads", phase.reads, phase.seconds),
        Figure(name=f"{name}: reads shed", value=shed, unit=""),
        Figure(name=f"{name}: failed", value=wrong, unit="", goal="= 0", is_met=wrong == 0),
    ]


def _times(name: str, asked: Asked, seconds: float) -> list[Figure]:
    known = sorted(asked.seconds)
    if not known:
        return [Figure(name=name, value=0.0, unit="/s", goal="> 0", is_met=False)]
    shares: list[tuple[str, Callable[[int], int]]] = [
        (f"p{share}", lambda count, share=share: min(count - 1, count * share // 100))  # type: ignore[misc]
        for share in (50, 95, 99)
    ]
    return [
        Figure(name=name, value=len(known) / seconds, unit="/s"),
        *(Figure(name=f"{name}, {part}", value=1_000 * known[place(len(known))], unit="ms") for part, place in shares),
    ]


def _taken(workers: Workers) -> list[Figure]:
    return [
        Figure(name=f"{name}, processor", value=round(percent, 1), unit="%")
        for name, (percent, _) in sorted(workers.taken().items(), key=lambda item: -item[1][0])
        if percent >= 1
    ]


if __name__ == "__main__":
    sys.exit(
        measured(
            measure,
            seconds="seconds of each phase",
            rounds="turns with and without reconciler and witnesses",
            clients="connections for checkouts, and as many for reads",
        )
    )
