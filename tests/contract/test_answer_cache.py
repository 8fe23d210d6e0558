"""What every cache of answers must do, whichever server it is on: each adapter passes all of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import redis

from contracts.assembled import Assembled
from contracts.errors import CacheUnavailableError, SettingsError
from contracts.waiting import wait_until
from derived.answer_cache.caches import ADAPTERS, cache_at
from derived.answer_cache.port import (
    AnswerCache,
    AnswerKey,
    Filled,
    Found,
    Lifetime,
    Standing,
    Touched,
    key_of,
)
from derived.answer_cache.valkey_cache import ValkeyAnswerCache
from streams.projection import START, Position

POD, EPOCH = "pod1", "system.1.1"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = AnswerKey(pod=POD, kind="page.1", merchant_id="a: merchant", directory_epoch=1, subject="product")
LIFETIME = Lifetime(fresh_seconds=60, kept_seconds=120)
LONG = 30.0
"""Seconds of a lease that does not end within a test."""


@pytest.fixture(params=sorted(set(ADAPTERS.values()), key=repr), ids=lambda adapter: adapter.__name__)
def cache(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[AnswerCache]:
    """A cache that has followed the pod up to cut 10; an adapter of another server brings its fixture here."""
    opened: AnswerCache = request.param({ValkeyAnswerCache: valkey_url}[request.param], answer_seconds=5.0)
    begin(opened)
    yield opened
    opened.close()


@pytest.fixture
def server(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


def begin(cache: AnswerCache, since_cut: int = 10, epoch: str = EPOCH) -> str:
    positions = {0: Position(cut=since_cut, chunk=0), 1: Position(cut=since_cut, chunk=0)}
    return cache.begin(POD, epoch, since_cut, positions, NOW)


def get(cache: AnswerCache, key: AnswerKey = KEY, *, lease_seconds: float = LONG, early_factor: float = 0.0) -> Found:
    return cache.get_or_lease(key, lease_seconds=lease_seconds, early_factor=early_factor)


def loaded(cut: int = 10, body: bytes | None = b"\x00 a page", *, tags: Sequence[str] = ("t1", "t2")) -> Assembled:
    return Assembled(body=body, epoch=EPOCH, cut=cut, tags=tuple(tags))


def fill(cache: AnswerCache, found: Found, answer: Assembled, key: AnswerKey = KEY, **options: float) -> Filled:
    lifetime = replace(LIFETIME, **{name: value for name, value in options.items() if name != "seconds"})
    return cache.fill(key, found.token, answer, lifetime=lifetime, seconds=options.get("seconds", 0.01))


def touch(cache: AnswerCache, floors: dict[str, int], before: Position, after: Position, epoch: str = EPOCH) -> bool:
    touched = Touched(epoch=epoch, expected={0: before}, positions={0: after}, data_at=NOW, floors=floors)
    return cache.invalidate(POD, touched)


def at(cut: int, chunk: int = 0) -> Position:
    return Position(cut=cut, chunk=chunk)


def test_the_first_gets_the_lease_others_wait_and_all_get_what_it_fills(cache: AnswerCache) -> None:
    first, second = get(cache), get(cache)
    assert (first.standing, second.standing, second.token) == (Standing.LEASE, Standing.WAIT, "")
    assert first.held is None and second.held is None
    assert fill(cache, first, loaded()) is Filled.FILLED
    found = get(cache)
    assert found.standing is Standing.FRESH and found.held is not None
    assert (found.held.body, found.held.cut, found.held.tags) == (b"\x00 a page", 10, ("t1", "t2"))
    assert 0 <= found.held.age_seconds < LONG
    assert get(cache, replace(KEY, subject="another")).standing is Standing.LEASE, "answers do not meet"
    assert get(cache, replace(KEY, directory_epoch=2)).standing is Standing.LEASE, "nor do stays in a pod"


def test_that_something_does_not_exist_is_remembered_until_it_is_touched(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded(body=None))
    found = get(cache)
    assert found.standing is Standing.FRESH and found.held is not None and found.held.body is None
    assert touch(cache, {"t1": 11}, at(10), at(11))
    assert get(cache).standing is Standing.LEASE


def test_what_is_touched_later_is_good_no_more_and_is_handed_out_as_stale(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded())
    assert touch(cache, {"t3": 11}, at(10), at(11)) and get(cache).standing is Standing.FRESH, "not a tag of it"
    assert touch(cache, {"t2": 12}, at(11), at(12))
    looked = cache.look(KEY)
    assert looked is not None and looked.standing is Standing.WAIT
    first, second = get(cache), get(cache)
    assert (first.standing, second.standing) == (Standing.LEASE, Standing.WAIT)
    for found in (first, second):
        assert found.held is not None and (found.held.body, found.held.cut) == (b"\x00 a page", 10)


def test_an_old_answer_is_refused_even_under_a_valid_lease(cache: AnswerCache) -> None:
    slow = get(cache)
    assert touch(cache, {"t1": 12}, at(10), at(12))
    assert fill(cache, slow, loaded(11)) is Filled.STALE
    assert get(cache).standing is Standing.LEASE, "the refused fill has ended its lease"


def test_an_answer_that_was_read_ahead_of_the_consumer_stays_good(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded(13))
    assert touch(cache, {"t1": 13, "t2": 11}, at(10), at(13))
    assert get(cache).standing is Standing.FRESH
    assert touch(cache, {"t1": 14}, at(13), at(14)) and get(cache).standing is Standing.LEASE


def test_a_floor_never_falls(cache: AnswerCache) -> None:
    assert touch(cache, {"t1": 15}, at(10), at(15)) and touch(cache, {"t1": 12}, at(15), at(16))
    assert fill(cache, get(cache), loaded(14)) is Filled.STALE


def test_a_lease_that_ended_fills_nothing_and_the_next_one_loads(cache: AnswerCache) -> None:
    killed = get(cache, lease_seconds=0.05)
    following: list[Found] = []

    def leased() -> bool:
        following.append(get(cache))
        return following[-1].standing is Standing.LEASE

    wait_until(leased, timeout_seconds=10, failure=lambda: "The lease never ended.")
    assert {one.standing for one in following[:-1]} <= {Standing.WAIT}
    assert fill(cache, killed, loaded(body=b"late")) is Filled.LOST
    assert not cache.renew(KEY, killed.token, lease_seconds=LONG)
    cache.release(KEY, killed.token)
    assert get(cache).standing is Standing.WAIT, "the second one holds it still"
    assert fill(cache, following[-1], loaded(body=b"second")) is Filled.FILLED


def test_a_renewed_lease_outlives_its_time(cache: AnswerCache, server: redis.Redis) -> None:
    holder = get(cache, lease_seconds=0.5)
    assert cache.renew(KEY, holder.token, lease_seconds=LONG)
    (lease,) = server.keys("*:l:*")
    assert server.pttl(lease) > 20_000
    cache.release(KEY, holder.token)
    assert get(cache).standing is Standing.LEASE


def test_of_many_at_once_one_loads(cache: AnswerCache) -> None:
    barrier, found = threading.Barrier(16), list[Found]()

    def ask() -> None:
        barrier.wait()
        found.append(get(cache))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.standing for one in found) == [Standing.LEASE, *[Standing.WAIT] * 15]


def test_an_answer_is_refreshed_before_it_expires_by_one_reader(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded(), seconds=2.0)
    assert get(cache, early_factor=20).standing is Standing.FRESH, "60 s are left, and it took 2 s"
    early = get(cache, early_factor=40)
    assert early.standing is Standing.EARLY and early.held is not None and early.token
    assert get(cache, early_factor=40).standing is Standing.FRESH, "one refreshes it"
    assert fill(cache, early, loaded(11, b"new")) is Filled.FILLED
    held = get(cache).held
    assert held is not None and held.body == b"new"


def test_an_expired_answer_is_stale_until_it_is_removed(cache: AnswerCache, server: redis.Redis) -> None:
    fill(cache, get(cache), loaded(), fresh_seconds=0.001)

    def expired() -> bool:
        looked = get(cache, lease_seconds=0.001)
        return looked.standing is Standing.LEASE and looked.held is not None

    wait_until(expired, timeout_seconds=10, failure=lambda: "The answer never expired.")
    (value,) = server.keys("*:v:*")
    assert 100_000 < server.pttl(value) <= 120_000


def test_what_was_read_later_is_not_replaced_by_what_was_read_earlier(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded(12, b"later"), fresh_seconds=0.001)
    wait_until(
        lambda: (found := get(cache)).standing is Standing.LEASE and fill(cache, found, loaded(11)) is Filled.OLDER,
        timeout_seconds=10,
        failure=lambda: "The earlier answer was never refused.",
    )
    assert (held := get(cache).held) is not None and held.body == b"later"


def test_positions_move_with_their_effect_or_not_at_all(cache: AnswerCache) -> None:
    fill(cache, get(cache), loaded())
    assert not touch(cache, {"t1": 12}, at(11), at(12)), "the position is 10"
    assert get(cache).standing is Standing.FRESH
    assert touch(cache, {"t1": 11}, at(10), at(10, 3))
    following = cache.following(POD)
    assert following is not None
    assert (following.epoch, following.since_cut, following.data_at) == (EPOCH, 10, NOW)
    assert following.positions == {0: at(10, 3), 1: at(10)}
    new = Touched(epoch=EPOCH, expected={2: START}, positions={2: at(12)}, data_at=NOW)
    assert cache.invalidate(POD, new), "a partition that was added begins at the start"
    assert not touch(cache, {}, at(10, 3), at(12), epoch="another")


@pytest.mark.parametrize("lost", ["*:state", "*:floors", "*"])
def test_without_any_part_of_what_was_touched_nothing_is_served_or_filled(
    cache: AnswerCache, server: redis.Redis, lost: str
) -> None:
    fill(cache, get(cache), loaded())
    other = get(cache, replace(KEY, subject="another"))
    server.delete(*server.keys(lost))
    assert get(cache).standing is Standing.UNREADY and cache.look(KEY) is None and cache.following(POD) is None
    refused = fill(cache, other, loaded(), replace(KEY, subject="another"))
    assert refused in {Filled.UNREADY, Filled.LOST} and not touch(cache, {}, at(10), at(11))
    begin(cache)
    assert get(cache).standing is Standing.LEASE, "answers of before are not good again"


def test_who_begins_anew_takes_nothing_of_before(cache: AnswerCache) -> None:
    slow = get(cache)
    fill(cache, get(cache, replace(KEY, subject="another")), loaded(), replace(KEY, subject="another"))
    generations = {begin(cache, 20), begin(cache, 20)}
    assert len(generations) == 2
    assert get(cache, replace(KEY, subject="another")).standing is Standing.LEASE
    assert fill(cache, slow, loaded(19)) is Filled.STALE
    assert fill(cache, get(cache), loaded(20)) is Filled.FILLED


def test_an_answer_of_another_history_is_refused(cache: AnswerCache) -> None:
    begin(cache, 5, epoch="system.1.2")
    assert fill(cache, get(cache), loaded(10)) is Filled.OTHER_EPOCH


def test_the_oldest_floors_are_forgotten_with_all_answers_from_before_them(valkey_url: str) -> None:
    cache = ValkeyAnswerCache(valkey_url, answer_seconds=5.0, floors_max=20)
    begin(cache)
    fill(cache, get(cache), loaded(11))
    later = replace(KEY, subject="later")
    fill(cache, get(cache, later), loaded(29), later)
    for cut in range(11, 35):
        assert touch(cache, {f"tag {cut}": cut}, at(cut - 1), at(cut))
    following = cache.following(POD)
    assert following is not None and 11 < following.since_cut <= 29
    assert get(cache).standing is Standing.LEASE and get(cache, later).standing is Standing.FRESH
    cache.close()


def test_a_sample_names_answers_and_what_is_dropped_is_gone(cache: AnswerCache) -> None:
    keys = {replace(KEY, subject=f"p{number}") for number in range(30)}
    for key in keys:
        fill(cache, get(cache, key), loaded(), key)
    assert cache.sample("pod2", 10) == []
    sampled = cache.sample(POD, 10)
    assert len(sampled) == 10 and set(sampled) <= keys
    assert set(cache.sample(POD, 1_000)) == keys
    assert cache.drop(sampled) == 10 and cache.drop([]) == 0 and cache.look(sampled[0]) is None
    assert all(key_of(POD, str(key)) == key for key in keys)


def test_an_unknown_url_and_a_server_that_is_away_are_said() -> None:
    with pytest.raises(SettingsError, match="TIEOUT_CACHE_URL begins with http://"):
        cache_at("http://localhost")
    away = cache_at("redis://127.0.0.1:9/0")
    with pytest.raises(CacheUnavailableError, match="does not answer"):
        away.ping()
    with pytest.raises(CacheUnavailableError):
        get(away)
    away.close()
