"""What the cache of answers saves: a hot product page with it and without it, and how many loads a herd makes.

    python -m bench.serving_cache [--reads N] [--readers N] [--json]

Belongs here: one reader of one hot page of six variants; four processes that miss the same answer at once, and a loader
that is killed. Does not belong here: HTTP around it (`bench/serving.py`). Processor time is that of the reader, of
PostgreSQL and of the cache's server together.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier, Event
from typing import Any

import psutil
import psycopg

from bench.commands import MERCHANT, open_shop
from bench.figures import Figure, measured
from bench.processor import cost_of
from bench.servers import own_postgres, own_valkey
from contracts.assembled import Assembled
from contracts.settings import PodSettings
from contracts.waiting import wait_until
from derived.answer_cache.caches import cache_at, notices_of
from derived.answer_cache.kinds import PRODUCT_PAGE, AnswerKind
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerCache
from derived.answer_cache.reading import AnswerReader, Source
from oltp.commands.execute import CommandPod, build_command_pod
from oltp.reads.product_page import read_product_page
from oltp.store.migrate import migrate
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.valkey import EmbeddedValkey
from streams.cuts import Cut, CutShape, insert_cut
from streams.projection import Position

VARIANTS, PROCESSES, POD, EPOCH = 6, 4, "pod1", "bench"
RATIO_MAX = 0.5
"""A hot page through the cache costs at most so many times the page from OLTP."""
PATIENT = replace(PRODUCT_PAGE, wait_seconds=120.0, lease_seconds=5.0)
SHORT = replace(PATIENT, lease_seconds=1.0)
ANSWER_SECONDS = 60.0
LOAD_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A pod with a product, and a cache that stands at its last cut."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    pod: CommandPod
    product_id: str
    cache: AnswerCache

    def load(self) -> Assembled:
        """Put the page together."""
        with self.pod.connections.connection() as connection:
            return read_product_page(connection, MERCHANT, self.product_id, directory_epoch=1)


def measure(*, reads: int = 5_000, readers: int = 250) -> list[Figure]:
    """Return the processor time of a page by each way, the ratios, and the loads of the herd."""
    with opened() as shop:
        near = NearAnswers()
        notices = notices_of(shop.valkey.url(), [POD], near)
        notices.start()
        key = PRODUCT_PAGE.key(POD, MERCHANT, 1, shop.product_id)
        by_cache, by_process = AnswerReader(shop.cache), AnswerReader(shop.cache, near=near)
        wait_until(
            lambda: by_process.read(PRODUCT_PAGE, key, shop.load).source is Source.PROCESS,
            timeout_seconds=60,
            failure=lambda: "The process never held the page.",
        )
        ways: dict[str, Callable[[], Any]] = {
            "page from OLTP": shop.load,
            "page from the cache's server": lambda: by_cache.read(PRODUCT_PAGE, key, shop.load),
            "page as an interface reads it, held in the process": lambda: by_process.read(PRODUCT_PAGE, key, shop.load),
        }
        costs = {name: _microseconds(shop, way, reads) for name, way in ways.items()}
        notices.close()
        by_cache.close()
        by_process.close()
        loads, after_kill = herd(shop.valkey.url(), readers), killed(shop.valkey.url())
    without, by_server, hot = costs.values()
    return [
        *(Figure(name=name, value=value, unit="us") for name, value in costs.items()),
        Figure(name="cache's server : OLTP", value=by_server / without, unit=""),
        _goal("hot page with the cache : without", hot / without, f"<= {RATIO_MAX}", is_met=hot / without <= RATIO_MAX),
        _goal(f"loads of {PROCESSES * readers:,} readers at once", loads, "= 1", is_met=loads == 1),
        _goal("loads when the first loader is killed", after_kill, "= 2", is_met=after_kill == 2),
    ]


def _goal(name: str, value: float, goal: str, *, is_met: bool) -> Figure:
    return Figure(name=name, value=value, unit="", goal=goal, is_met=is_met)


def _microseconds(shop: Shop, way: Callable[[], Any], number: int) -> float:
    """Return the processor time of one read: of this process, of PostgreSQL and of the cache's server."""

    def work() -> None:
        for _ in range(number):
            way()

    work_before = _seconds_of(shop.valkey)
    cost = cost_of(shop.postgres, work)
    return (cost.client + cost.server + _seconds_of(shop.valkey) - work_before) / number * 1e6


def _seconds_of(valkey: EmbeddedValkey) -> float:
    times = psutil.Process(int((valkey.folder / "valkey.pid").read_text())).cpu_times()
    return times.user + times.system


@contextmanager
def opened() -> Iterator[Shop]:
    """Yield a shop with one product; stop and delete everything afterwards."""
    with own_postgres() as (postgres, folder), own_valkey(folder) as valkey:
        settings = _pod_settings(postgres)
        with build_command_pod(settings) as pod:
            open_shop(pod, VARIANTS)
            cut = _register_cut(settings)
            cache = cache_at(valkey.url(), answer_seconds=ANSWER_SECONDS)
            cache.begin(POD, cut.epoch, cut.cut, {0: Position(cut=cut.cut, chunk=0)}, cut.registered_at)
            with pod.connections.connection() as connection:
                row = connection.execute("select product_id::text from oltp.products").fetchone()
            product_id = row[0] if row else ""
            yield Shop(postgres=postgres, valkey=valkey, pod=pod, product_id=product_id, cache=cache)
            cache.close()


def _pod_settings(postgres: EmbeddedPostgres) -> PodSettings:
    roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE)
    bootstrap.prepare_pod(postgres.superuser_dsn(), {role: f"{role}-password" for role in roles})
    owner, app, relay, reader = (
        postgres.dsn(role, f"{role}-password", bootstrap.POD_DATABASE) for role in bootstrap.POD_ROLES
    )
    migrate(owner)
    return PodSettings(pod=POD, owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader)


def _register_cut(settings: PodSettings) -> Cut:
    with psycopg.connect(settings.relay_dsn) as connection:
        return insert_cut(connection, CutShape(partition_count=1, chunk_rows=10_000), registered_by="bench")


def herd(url: str, readers: int) -> int:
    """Return how many loads it takes when all readers of all processes miss the same answer at once."""
    _begin(url, "herd")
    context = multiprocessing.get_context("spawn")
    loads, barrier = context.Value("i", 0), context.Barrier(PROCESSES)
    children = [
        context.Process(target=_miss, args=(url, "herd", readers, PATIENT, loads, barrier)) for _ in range(PROCESSES)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return int(loads.value)


def killed(url: str) -> int:
    """Return how many loads it takes when the process with the first one is killed while it loads."""
    _begin(url, "killed")
    context = multiprocessing.get_context("spawn")
    loads, begun, alone = context.Value("i", 0), context.Event(), context.Barrier(1)
    first = context.Process(target=_hang, args=(url, "killed", loads, begun))
    first.start()
    begun.wait(120)
    second = context.Process(target=_miss, args=(url, "killed", 50, SHORT, loads, alone))
    second.start()
    if first.pid is not None:
        os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join()
    return int(loads.value)


def _begin(url: str, pod: str) -> None:
    """Let the cache follow a pod that exists nowhere else."""
    with closing(cache_at(url)) as cache:
        cache.begin(pod, EPOCH, 0, {}, datetime.now(UTC))


def _counted(loads: Any, seconds: float, begun: Event | None = None) -> Callable[[], Assembled]:
    def load() -> Assembled:
        with loads.get_lock():
            loads.value += 1
        if begun is not None:
            begun.set()
        time.sleep(seconds)
        return Assembled(body=b"{}", epoch=EPOCH, cut=1, tags=("t",))

    return load


def _miss(url: str, subject: str, readers: int, kind: AnswerKind, loads: Any, barrier: Barrier) -> None:
    cache = cache_at(url, answer_seconds=ANSWER_SECONDS)
    reader, load = AnswerReader(cache), _counted(loads, LOAD_SECONDS)
    key = kind.key(subject, MERCHANT, 1, subject)
    barrier.wait(120)
    threads = [threading.Thread(target=reader.read, args=(kind, key, load)) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    cache.close()


def _hang(url: str, subject: str, loads: Any, begun: Event) -> None:
    cache = cache_at(url, answer_seconds=ANSWER_SECONDS)
    AnswerReader(cache).read(SHORT, SHORT.key(subject, MERCHANT, 1, subject), _counted(loads, 600.0, begun))


if __name__ == "__main__":
    sys.exit(measured(measure, reads="reads of each kind", readers="threads of each of the four processes"))
