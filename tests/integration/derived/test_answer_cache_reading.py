"""Readers of the cache on a real server: one load for many, killed loaders, stale answers, a cache that is away."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from contracts.assembled import Assembled
from contracts.errors import InputError, OverloadedError, StackError
from contracts.waiting import wait_until
from derived.answer_cache.breaker import Breaker
from derived.answer_cache.gate import LoadGate
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerKey, Touched
from derived.answer_cache.reading import AnswerReader, Source
from derived.answer_cache.valkey_cache import ValkeyAnswerCache
from derived.answer_cache.valkey_notices import ValkeyNotices
from stack.servers.valkey import EmbeddedValkey
from streams.projection import Position

ROOT = Path(__file__).resolve().parents[3]
POD, EPOCH = "pod1", "system.1.1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KIND = replace(PRODUCT_PAGE, wait_seconds=20.0, lease_seconds=10.0)
IMPATIENT = replace(KIND, wait_seconds=0.05)
KEY = KIND.key(POD, "merchant", 1, "product")


@pytest.fixture
def cache(valkey_url: str) -> Iterator[ValkeyAnswerCache]:
    opened = ValkeyAnswerCache(valkey_url, answer_seconds=10.0)
    opened.begin(POD, EPOCH, 10, {0: Position(cut=10, chunk=0)}, NOW)
    yield opened
    opened.close()


@pytest.fixture
def make_reader(cache: ValkeyAnswerCache) -> Iterator[Callable[..., AnswerReader]]:
    made = []

    def make(**options: object) -> AnswerReader:
        # Nothing is refreshed early, and every answer lives for its whole time.
        made.append(AnswerReader(cache, **{"draw": lambda: 0.0, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@pytest.fixture
def reader(make_reader: Callable[..., AnswerReader]) -> AnswerReader:
    return make_reader()


class Page:
    """A load that counts its calls, and can be held up."""

    def __init__(self, body: bytes | None = b"page", cut: int = 10) -> None:
        self.answer = Assembled(body=body, epoch=EPOCH, cut=cut, tags=("t1", "t2"))
        self.calls = 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def __call__(self) -> Assembled:
        self.calls += 1
        self.begun.set()
        assert self.may_end.wait(30)
        return self.answer


def failing() -> Assembled:
    raise StackError("The database is away.")


def touch(cache: ValkeyAnswerCache, tag: str, cut: int) -> None:
    following = cache.following(POD)
    assert following is not None
    positions = {0: Position(cut=cut, chunk=0)}
    touched = Touched(epoch=EPOCH, expected=following.positions, positions=positions, data_at=NOW, floors={tag: cut})
    assert cache.invalidate(POD, touched)


def test_many_who_ask_at_once_get_one_load(reader: AnswerReader) -> None:
    page = Page()
    page.may_end.clear()
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(reader.read, KIND, KEY, page) for _ in range(32)]
        assert page.begun.wait(30)
        page.may_end.set()
        served = [one.result() for one in asked]
    assert page.calls == 1
    assert {one.body for one in served} == {b"page"}
    assert sorted(one.source for one in served) == [*[Source.CACHE] * 31, Source.OLTP]


def test_a_touched_answer_is_loaded_again_and_an_absent_one_is_remembered(
    reader: AnswerReader, cache: ValkeyAnswerCache
) -> None:
    absent, page = Page(body=None), Page(cut=11)
    assert reader.read(KIND, KEY, absent).body is None and reader.read(KIND, KEY, absent).source is Source.CACHE
    assert absent.calls == 1
    touch(cache, "t2", 11)
    assert (reader.read(KIND, KEY, page).body, page.calls) == (b"page", 1)
    assert reader.read(KIND, KEY, page).source is Source.CACHE


def test_a_load_from_before_a_change_reaches_nobody_but_its_reader(
    reader: AnswerReader, cache: ValkeyAnswerCache
) -> None:
    slow, page = Page(b"old"), Page(b"new", cut=11)
    slow.may_end.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.read, KIND, KEY, slow)
        assert slow.begun.wait(30)
        touch(cache, "t1", 11)
        slow.may_end.set()
        assert first.result().body == b"old", "it began to ask before the change was applied"
    assert reader.read(KIND, KEY, page).body == b"new" and page.calls == 1


def test_who_waits_too_long_gets_the_stale_answer_where_it_is_allowed(
    reader: AnswerReader, cache: ValkeyAnswerCache
) -> None:
    reader.read(KIND, KEY, Page(b"old"))
    touch(cache, "t1", 11)
    slow, own = Page(b"slow", cut=11), Page(b"own", cut=11)
    slow.may_end.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.read, KIND, KEY, slow)
        assert slow.begun.wait(30)
        served = reader.read(IMPATIENT, KEY, own)
        assert (served.body, served.source, served.cut, own.calls) == (b"old", Source.STALE, 10, 0)
        never_stale = reader.read(replace(IMPATIENT, stale_seconds=0.0), KEY, own)
        assert (never_stale.body, never_stale.source) == (b"own", Source.OLTP)
        slow.may_end.set()
        first.result()


def test_a_failed_load_serves_the_stale_answer_and_lets_the_next_one_load(
    reader: AnswerReader, cache: ValkeyAnswerCache
) -> None:
    with pytest.raises(StackError, match="away"):
        reader.read(KIND, KEY, failing)
    reader.read(KIND, KEY, Page(b"old"))
    touch(cache, "t1", 11)
    assert reader.read(KIND, KEY, failing).source is Source.STALE
    with pytest.raises(StackError):
        reader.read(replace(KIND, stale_seconds=0.0), KEY, failing)

    def wrong() -> Assembled:
        raise InputError("There is no such question.")

    with pytest.raises(InputError):
        reader.read(KIND, KEY, wrong)
    assert reader.read(KIND, KEY, Page(b"new", cut=11)).source is Source.OLTP


def test_an_early_refresh_that_fails_serves_what_is_good_still(make_reader: Callable[..., AnswerReader]) -> None:
    steady, eager = make_reader(), make_reader(draw=lambda: 0.999999)
    slow_page = Page()

    def took_long() -> Assembled:
        time.sleep(0.01)
        return slow_page()

    steady.read(replace(KIND, fresh_seconds=0.1), KEY, took_long)
    found = eager.read(replace(KIND, fresh_seconds=0.1), KEY, failing)
    assert found.body == b"page" and found.source in {Source.CACHE, Source.STALE}


def test_a_slow_load_keeps_its_lease(reader: AnswerReader, cache: ValkeyAnswerCache) -> None:
    short = replace(KIND, lease_seconds=0.3)
    page, other = Page(), Page(b"other")
    page.may_end.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reader.read, short, KEY, page)
        assert page.begun.wait(30)
        second = pool.submit(reader.read, replace(short, wait_seconds=1.2), KEY, other)
        # It waits for four times the lease, then loads without one.
        assert second.result().source is Source.OLTP
        page.may_end.set()
        first.result()
    assert reader.read(short, KEY, Page(b"third")).body == b"page", "the first load was filled in"


def test_too_many_loads_refuse_those_that_may_wait(make_reader: Callable[..., AnswerReader]) -> None:
    reader = make_reader(gate=LoadGate(1))
    page = Page()
    page.may_end.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.read, KIND, KEY, page)
        assert page.begun.wait(30)
        with pytest.raises(OverloadedError):
            reader.read(IMPATIENT, replace(KEY, subject="another"), Page())
        page.may_end.set()
        assert first.result().source is Source.OLTP
    assert reader.read(IMPATIENT, replace(KEY, subject="another"), Page()).source is Source.OLTP, "its lease has ended"


def test_a_cache_that_is_away_costs_a_few_attempts_and_no_answer() -> None:
    away = ValkeyAnswerCache("redis://127.0.0.1:9/0")
    clock = [100.0]
    breaker = Breaker(failures_max=2, rest_seconds=5.0, monotonic=lambda: clock[0])
    reader, page = AnswerReader(away, breaker=breaker), Page()
    assert {reader.read(KIND, KEY, page).source for _ in range(5)} == {Source.OLTP}
    assert page.calls == 5 and breaker.is_resting and not breaker.lets_through()
    reader.close()
    away.close()


def test_a_flushed_cache_loads_for_everybody_until_its_consumer_begins_anew(
    reader: AnswerReader, cache: ValkeyAnswerCache, valkey_url: str
) -> None:
    page = Page()
    reader.read(KIND, KEY, page)
    with redis.Redis.from_url(valkey_url) as server:
        server.flushall()
    assert [reader.read(KIND, KEY, page).source for _ in range(2)] == [Source.OLTP] * 2
    cache.begin(POD, EPOCH, 10, {0: Position(cut=10, chunk=0)}, NOW)
    assert [reader.read(KIND, KEY, page).source for _ in range(2)] == [Source.OLTP, Source.CACHE]


@pytest.fixture
def near(valkey_url: str, cache: ValkeyAnswerCache) -> Iterator[NearAnswers]:
    near = NearAnswers(held_seconds_max=600.0)
    notices = ValkeyNotices(valkey_url, [POD, "pod2"], near)
    notices.start()
    yield near
    notices.close()


def held_by(reader: AnswerReader, near: NearAnswers, page: Page, key: AnswerKey = KEY) -> None:
    """Read until the process itself holds the answer."""
    wait_until(
        lambda: reader.read(KIND, key, page).source is Source.PROCESS,
        timeout_seconds=20,
        failure=lambda: "The process never held the answer.",
    )


def test_what_a_process_holds_goes_when_it_is_touched_filled_or_flushed(
    make_reader: Callable[..., AnswerReader], cache: ValkeyAnswerCache, near: NearAnswers, valkey_url: str
) -> None:
    reader, page = make_reader(near=near), Page()

    def gone() -> None:
        wait_until(lambda: near.get(KEY) is None, timeout_seconds=20, failure=lambda: "The answer is held still.")

    held_by(reader, near, page)
    touch(cache, "t2", 11)
    gone()
    page.answer = replace(page.answer, cut=11, body=b"new")
    held_by(reader, near, page)
    cache.drop([KEY])
    gone()
    held_by(reader, near, page)
    with redis.Redis.from_url(valkey_url) as server:
        server.flushall()
    gone()
    assert reader.read(KIND, KEY, page).source is not Source.PROCESS


def test_a_lost_connection_drops_everything(
    make_reader: Callable[..., AnswerReader], near: NearAnswers, valkey_url: str
) -> None:
    reader, page = make_reader(near=near), Page()
    held_by(reader, near, page)
    with redis.Redis.from_url(valkey_url) as server:
        for client in server.client_list():
            # The connection that asked for tracking: the one that gets the messages would not notice by itself.
            if client["cmd"] in {"client|tracking", "ping"} and int(client["redir"]) > 0:
                server.client_kill_filter(_id=client["id"])
    wait_until(lambda: near.get(KEY) is None, timeout_seconds=20, failure=lambda: "The answer is held still.")
    held_by(reader, near, page)
    assert near.get(KEY) is not None, "a new connection tracks again"


HERD = """
import sys, threading, time
from contracts.assembled import Assembled
from dataclasses import replace
from derived.answer_cache.gate import LoadGate
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.reading import AnswerReader
from derived.answer_cache.valkey_cache import ValkeyAnswerCache

kind = replace(PRODUCT_PAGE, wait_seconds=60.0, lease_seconds=float(sys.argv[3]))
cache = ValkeyAnswerCache(sys.argv[1], answer_seconds=30.0)
reader, loads = AnswerReader(cache), []

def load():
    loads.append(1)
    print("loading", flush=True)
    time.sleep(float(sys.argv[4]))
    return Assembled(body=b"page", epoch="system.1.1", cut=10, tags=("t1",))

def ask():
    assert reader.read(kind, kind.key("pod1", "merchant", 1, "herd"), load).body == b"page"

sys.stdin.readline()
threads = [threading.Thread(target=ask) for _ in range(int(sys.argv[2]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("loads", len(loads), flush=True)
"""


def herd(url: str, readers: int, lease_seconds: float, load_seconds: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", HERD, url, str(readers), str(lease_seconds), str(load_seconds)]
    return subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def loads_of(process: subprocess.Popen[str]) -> int:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return int(output.strip().splitlines()[-1].removeprefix("loads "))


@pytest.mark.long
def test_a_thousand_misses_in_four_processes_make_one_load(valkey_url: str, cache: ValkeyAnswerCache) -> None:
    processes = [herd(valkey_url, 250, lease_seconds=5.0, load_seconds=1.0) for _ in range(4)]
    for process in processes:
        go(process)
    assert sum(map(loads_of, processes)) == 1


def test_a_killed_loader_is_replaced_exactly_once(valkey_url: str, cache: ValkeyAnswerCache) -> None:
    killed, following = herd(valkey_url, 1, 0.5, 60.0), herd(valkey_url, 20, 0.5, 0.1)
    try:
        go(killed)
        assert killed.stdout is not None and killed.stdout.readline() == "loading\n"
        go(following)
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=60)
        assert loads_of(following) == 1
    finally:
        killed.kill()
        following.kill()


def test_answers_are_evicted_before_the_server_is_full(valkey_server: EmbeddedValkey, cache: ValkeyAnswerCache) -> None:
    with redis.Redis.from_url(valkey_server.url()) as server:
        before = server.config_get("maxmemory*")
        used = int(server.info("memory")["used_memory"])
        try:
            server.config_set("maxmemory-policy", "allkeys-lfu")
            server.config_set("maxmemory", used + (2 << 20))
            reader, page = AnswerReader(cache, draw=lambda: 0.0), Page(b"x" * 20_000)
            for number in range(300):
                assert reader.read(KIND, replace(KEY, subject=f"p{number}"), page).body == page.answer.body
            reader.close()
            assert int(server.info("stats")["evicted_keys"]) > 0
        finally:
            server.config_set("maxmemory-policy", before["maxmemory-policy"])
            server.config_set("maxmemory", before["maxmemory"])


def test_a_slow_cache_is_left_alone_after_a_few_attempts(valkey_url: str, cache: ValkeyAnswerCache) -> None:
    hasty = ValkeyAnswerCache(valkey_url, answer_seconds=0.05)
    breaker = Breaker(failures_max=3, rest_seconds=600.0)
    reader, page = AnswerReader(hasty, breaker=breaker), Page()
    reader.read(KIND, KEY, page)
    with redis.Redis.from_url(valkey_url) as server:
        # Functions that may write wait, too, and whoever ends the pause does not.
        server.client_pause(60_000, all=False)
        try:
            assert [reader.read(KIND, KEY, page).source for _ in range(20)] == [Source.OLTP] * 20
        finally:
            server.client_unpause()
    assert breaker.is_resting and page.calls == 21
    reader.close()
    hasty.close()
