"""The consumer loop on a real log and a real store: exactly once, in order, and what it does when something fails."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import redis

from contracts.clock import utc_now
from contracts.errors import EpochChangedError, LogGapError, ManifestMismatchError, StackError
from contracts.waiting import comes_true
from streams import parking
from streams.consumer import Consumer
from streams.cuts import register_cut, take_reconciler_cut
from streams.lag import observe, trim_log
from streams.log import Progress
from streams.parking import replay_parked
from streams.projection import Work
from streams.valkey_log import ValkeyLog
from tests.streams_support import MOMENT, SHAPE, Crash, Recorder, ids_of, insert_events, make_relay

MakeDatabase = Callable[..., str]


@pytest.fixture
def recorder(make_database: MakeDatabase) -> Recorder:
    return Recorder(make_database())


def report_lake(log: ValkeyLog, cut: int) -> None:
    """Let the log know a lake that has applied everything through `cut`; trimming waits for one."""
    log.report_progress("pod1", Progress(projection="lake", applied_cut=cut, reported_at=MOMENT))


def publish(dsn: str, log: ValkeyLog, count: int, *, prefix: str = "a", version: int = 1) -> list[str]:
    events = insert_events(dsn, count, prefix=prefix, version=version)
    make_relay(dsn, log).drain()
    return events


def versions_in_order(recorder: Recorder) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for _, _, aggregate, version, _ in recorder.applied():
        found[aggregate].append(version)
    return found


def test_everything_is_applied_once_and_in_order(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    for version in (1, 2, 3):
        publish(dsn, log, 40, version=version)
    result = Consumer(recorder, "pod1", log).drain()
    assert (result.applied_cut, result.events, result.steps, result.parked) == (3, 120, 1, 0)
    assert versions_in_order(recorder) == {f"a{number}": [1, 2, 3] for number in range(40)}
    assert Consumer(recorder, "pod1", log).drain().steps == 0


@pytest.mark.parametrize("events_max", [1, 25])
def test_a_large_cut_is_applied_chunk_by_chunk_and_resumed_within(
    dsn: str, log: ValkeyLog, recorder: Recorder, events_max: int
) -> None:
    events = publish(dsn, log, 95)

    def crash(work: Work) -> None:
        if len(recorder.works) == 2:
            raise Crash

    recorder.before_commit = crash
    with pytest.raises(Crash):
        Consumer(recorder, "pod1", log, events_max=events_max).drain()
    assert 0 < len(recorder.applied()) < 95
    recorder.before_commit = lambda work: None
    result = Consumer(recorder, "pod1", log, events_max=events_max).drain()
    assert result.applied_cut == 1
    assert sorted(ids_of(recorder.applied())) == sorted(events)


def test_a_step_is_bounded_by_what_its_events_take_in_memory(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    for version in (1, 2, 3, 4, 5, 6):
        publish(dsn, log, 40, version=version)
    assert Consumer(recorder, "pod1", log).drain(until_cut=3).steps == 1
    result = Consumer(recorder, "pod1", log, bytes_max=1).drain()
    # An entry is applied whole, however large it is, and nothing beside it.
    assert result.events == 120
    assert result.steps >= 3 * 2
    assert versions_in_order(recorder) == {f"a{number}": [1, 2, 3, 4, 5, 6] for number in range(40)}


def test_a_drain_stops_at_the_cut_it_was_given(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    for prefix in ("a", "b", "c"):
        publish(dsn, log, 3, prefix=prefix)
    assert Consumer(recorder, "pod1", log).drain(until_cut=2).applied_cut == 2
    assert {row[0] for row in recorder.applied()} == {1, 2}
    assert Consumer(recorder, "pod1", log).drain().applied_cut == 3


def test_empty_cuts_move_the_position_alone(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    publish(dsn, log, 1)
    for _ in range(3):
        with take_reconciler_cut(dsn, SHAPE, registered_by="reconciler"):
            pass
    make_relay(dsn, log).drain()
    result = Consumer(recorder, "pod1", log).drain()
    assert (result.applied_cut, result.events) == (4, 1)


def test_of_two_consumers_the_fenced_one_starts_over(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    events = publish(dsn, log, 30)
    first = Consumer(recorder, "pod1", log, events_max=10)
    second = Consumer(Recorder(recorder.dsn), "pod1", log)
    raced: list[int] = []
    original = recorder.state

    def state(pod: str) -> Any:
        found = original(pod)
        if not raced:
            raced.append(second.drain().events)
        return found

    recorder.state = state  # type: ignore[method-assign]
    assert first.drain().applied_cut == 1
    assert raced == [30]
    assert sorted(ids_of(recorder.applied())) == sorted(events)


def test_a_poison_event_parks_its_aggregate_and_no_other(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    first = publish(dsn, log, 5)
    second = insert_events(dsn, 5, version=2)
    third = insert_events(dsn, 5, version=3)
    make_relay(dsn, log).drain()
    recorder.poison = {second[1], second[4]}
    result = Consumer(recorder, "pod1", log).drain()
    assert (result.applied_cut, result.parked) == (2, 2)
    held = {second[1], second[4], third[1], third[4]}
    assert set(ids_of(recorder.applied())) == {*first, *second, *third} - held
    fourth = publish(dsn, log, 5, version=4)
    Consumer(recorder, "pod1", log).drain()
    parked = recorder.parked_events("pod1")
    assert {event.event_id for event in parked} == held | {fourth[1], fourth[4]}
    assert {event.error for event in parked if event.event_id == second[1]} == {"it is poison"}
    assert all("Waits behind" in event.error for event in parked if event.event_id not in recorder.poison)


def test_parked_events_are_replayed_in_order_after_a_fix(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    events = {version: insert_events(dsn, 3, version=version) for version in (1, 2)}
    make_relay(dsn, log).drain()
    events[3] = insert_events(dsn, 3, version=3)
    make_relay(dsn, log).drain()
    recorder.poison = {events[1][0], events[2][2]}
    Consumer(recorder, "pod1", log).drain()
    before = recorder.state("pod1").positions

    recorder.poison = {events[3][0]}
    result = replay_parked(recorder, "pod1", MOMENT)
    assert result.replayed_events == 4
    assert result.still_parked == {"shop/thing/a0"}
    assert [event.error for event in recorder.parked_events("pod1")] == ["it is poison"]

    recorder.poison = set()
    assert replay_parked(recorder, "pod1", MOMENT, keys=["shop/thing/other"]).replayed_events == 0
    assert replay_parked(recorder, "pod1", MOMENT, keys=["shop/thing/a0"]).still_parked == frozenset()
    assert versions_in_order(recorder) == {f"a{number}": [1, 2, 3] for number in range(3)}
    assert recorder.state("pod1").positions == before


def test_a_replay_that_meets_the_live_consumer_starts_over(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    first = publish(dsn, log, 1)
    recorder.poison = set(first)
    Consumer(recorder, "pod1", log).drain()
    recorder.poison = set()
    raced: list[int] = []
    original = recorder.parked_events

    def parked_events(pod: str, keys: Collection[str] | None = None) -> Any:
        found = original(pod, keys)
        if len(raced) == 1:
            publish(dsn, log, 1, version=2)
            Consumer(recorder, "pod1", log).drain()
        raced.append(len(found))
        return found

    recorder.parked_events = parked_events  # type: ignore[method-assign]
    assert replay_parked(recorder, "pod1", MOMENT).still_parked == frozenset()
    assert versions_in_order(recorder) == {"a0": [1, 2]}


def test_a_replay_comes_to_an_end_beside_a_consumer_that_moves_all_the_time(
    dsn: str, log: ValkeyLog, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at once are overtaken each time, a few at once are not; what others have parked is not read for them."""
    first = publish(dsn, log, 24)
    recorder.poison = set(first)
    Consumer(recorder, "pod1", log).drain()
    recorder.poison = set()
    monkeypatch.setattr(parking, "KEYS_PER_COMMIT", 16)
    asked: list[int] = []
    original = recorder.parked_events

    def parked_events(pod: str, keys: Collection[str] | None = None) -> Any:
        assert keys is not None, "never everything"
        asked.append(len(keys))
        if len(keys) > 4:
            publish(dsn, log, 1, prefix="b", version=len(asked))
            Consumer(recorder, "pod1", log).drain()
        return original(pod, keys)

    recorder.parked_events = parked_events  # type: ignore[method-assign]
    assert replay_parked(recorder, "pod1", MOMENT).still_parked == frozenset()
    applied = versions_in_order(recorder)
    assert {name: applied[name] for name in applied if name != "b0"} == {f"a{number}": [1] for number in range(24)}
    assert applied["b0"] == sorted(applied["b0"]) and max(asked) == 16 and len(asked) < 40


def test_nothing_is_parked_behind_events_that_were_replayed_meanwhile(
    dsn: str, log: ValkeyLog, recorder: Recorder
) -> None:
    first = publish(dsn, log, 2)
    recorder.poison = {first[0]}
    Consumer(recorder, "pod1", log).drain()
    recorder.poison = set()
    publish(dsn, log, 2, version=2)
    other = Recorder(recorder.dsn)
    original = recorder.state
    replayed: list[int] = []

    def state(pod: str) -> Any:
        found = original(pod)
        if not replayed:  # after the consumer has looked, somebody replays
            replayed.append(replay_parked(other, pod, MOMENT).replayed_events)
        return found

    recorder.state = state  # type: ignore[method-assign]
    assert Consumer(recorder, "pod1", log).drain().parked == 0
    assert replayed == [1]
    assert versions_in_order(recorder) == {"a0": [1, 2], "a1": [1, 2]}
    assert recorder.parked_events("pod1") == []


def spoil(server: redis.Redis, log: ValkeyLog, partition: int, cut: int, data: bytes | None) -> None:
    """Replace (or, with None, remove) an entry's bytes behind the log's back, keeping its id."""
    key = log.entries_key("pod1", 1, partition)
    rows: Any = server.xrange(key)
    server.delete(key)
    for entry_id, fields in rows:
        if entry_id == f"{cut}-0".encode():
            if data is None:
                continue
            fields = {**fields, b"events": data}
        server.xadd(key, fields, id=entry_id)


@pytest.mark.parametrize("damage", ["missing", "garbage", "other events"])
def test_an_unreadable_entry_stops_its_partition_and_no_other(
    dsn: str, log: ValkeyLog, server: redis.Redis, recorder: Recorder, damage: str
) -> None:
    for prefix in ("a", "b", "c"):
        publish(dsn, log, 20, prefix=prefix)
    intact: Any = server.xrange(log.entries_key("pod1", 1, 1))
    data = {"missing": None, "garbage": b"?", "other events": intact[2][1][b"events"]}[damage]
    spoil(server, log, 1, 2, data)
    with pytest.raises(LogGapError if damage == "missing" else ManifestMismatchError, match=r"artition 1|decoded"):
        Consumer(recorder, "pod1", log).drain()
    positions = recorder.state("pod1").positions
    assert {partition: position.cut for partition, position in positions.items()} == {0: 3, 1: 1, 2: 3} or positions[
        1
    ].cut == 0
    lag = observe(recorder, "pod1", log)
    assert lag.state == "behind" and lag.lag_events > 0
    held = {item.partition: item for item in lag.partitions}
    assert held[1].lag_events == lag.lag_events and held[1].lag_seconds == lag.lag_seconds > 0
    assert held[0].lag_seconds == held[2].lag_seconds == 0.0
    # The others go on, and old events are applied again: the one that is held back stays as late as it is.
    publish(dsn, log, 20, prefix="d")
    with pytest.raises(LogGapError if damage == "missing" else ManifestMismatchError):
        Consumer(recorder, "pod1", log).drain()
    recorder.apply(replace(recorder.works[0], expected={}, positions={}))
    later = observe(recorder, "pod1", log)
    assert later.lag_seconds >= lag.lag_seconds and later.lag_events >= lag.lag_events
    assert {item.partition: item.lag_events == 0 for item in later.partitions} == {0: True, 1: False, 2: True}
    added: Any = server.xrange(log.entries_key("pod1", 1, 1), min="4-0")
    server.delete(log.entries_key("pod1", 1, 1))
    for entry_id, fields in [*intact, *added]:
        server.xadd(log.entries_key("pod1", 1, 1), fields, id=entry_id)
    assert Consumer(recorder, "pod1", log).drain().applied_cut == 4
    assert len(set(ids_of(recorder.applied()))) == 80
    assert {item.lag_seconds for item in observe(recorder, "pod1", log).partitions} == {0.0}


def test_a_missing_manifest_is_a_gap(dsn: str, log: ValkeyLog, server: redis.Redis, recorder: Recorder) -> None:
    for prefix in ("a", "b", "c"):
        publish(dsn, log, 2, prefix=prefix)
    server.xdel(log.manifests_key("pod1"), "2-0")
    with pytest.raises(LogGapError, match="no manifest of cut 2"):
        Consumer(recorder, "pod1", log).drain()


def test_another_epoch_is_not_applied_over(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    publish(dsn, log, 2)
    Consumer(recorder, "pod1", log).drain()
    with psycopg.connect(recorder.dsn, autocommit=True) as connection:
        connection.execute("update positions set epoch = 'another'")
    publish(dsn, log, 2, prefix="b")
    with pytest.raises(EpochChangedError, match="follows epoch another"):
        Consumer(recorder, "pod1", log).drain()


def test_a_copy_goes_on_while_the_log_is_full_and_what_it_has_applied_can_be_trimmed(
    dsn: str, log: ValkeyLog, recorder: Recorder, server: redis.Redis
) -> None:
    for prefix in ("a", "b", "c"):
        publish(dsn, log, 9, prefix=prefix)
    report_lake(log, 0)
    server.config_set("maxmemory", 1)
    try:
        insert_events(dsn, 1, prefix="d")
        with pytest.raises(StackError, match="The log takes no entries: its memory is full"):
            make_relay(dsn, log).drain()
        assert Consumer(recorder, "pod1", log).drain().applied_cut == 3
        report_lake(log, 3)
        assert {one.projection: one.applied_cut for one in log.progress("pod1")} == {"recorder": 3, "lake": 3}
        assert trim_log(log, "pod1").removed_entries > 0
    finally:
        server.config_set("maxmemory", 0)
    make_relay(dsn, log).drain()
    assert Consumer(recorder, "pod1", log).drain().applied_cut == 4


def test_lag_is_counted_in_events_and_in_age_of_data(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    nothing = observe(recorder, "pod1", log)
    assert (nothing.applied_cut, nothing.lag_events, nothing.lag_seconds, nothing.state) == (0, 0, 0.0, "current")
    publish(dsn, log, 2)
    Consumer(recorder, "pod1", log).drain()
    publish(dsn, log, 3, prefix="b")
    publish(dsn, log, 4, prefix="c")
    oldest = log.manifests("pod1", 1, limit=1)[0].oldest_recorded_at
    assert oldest is not None
    behind = observe(recorder, "pod1", log, clock=lambda: oldest + timedelta(seconds=90))
    assert (behind.applied_cut, behind.log_cut, behind.lag_events, behind.state) == (1, 3, 7, "behind")
    assert behind.lag_seconds == 90.0
    Consumer(recorder, "pod1", log).drain()
    assert observe(recorder, "pod1", log).lag_seconds == 0.0


def test_trimming_stops_at_what_every_registered_projection_has(
    dsn: str, log: ValkeyLog, recorder: Recorder, make_database: MakeDatabase
) -> None:
    slow = Recorder(make_database(), name="slow")
    assert trim_log(log, "pod1").kept_from_cut == 1
    for prefix in ("a", "b", "c", "d"):
        publish(dsn, log, 9, prefix=prefix)
        Consumer(recorder, "pod1", log).drain()
        if prefix in "ab":
            Consumer(slow, "pod1", log).drain()
    report_lake(log, 4)
    trimmed = trim_log(log, "pod1")
    assert (trimmed.kept_from_cut, trimmed.ignored) == (2, ())
    assert trimmed.removed_entries > 0
    assert Consumer(slow, "pod1", log).drain(until_cut=3).applied_cut == 3
    assert trim_log(log, "pod1", through_cut=2).removed_entries == 0
    later = utc_now() + timedelta(days=2)
    trimmed = trim_log(log, "pod1", clock=lambda: later)
    assert (trimmed.kept_from_cut, trimmed.ignored) == (4, ("slow",))
    assert observe(slow, "pod1", log).state == "current" or trimmed.kept_from_cut == 4
    publish(dsn, log, 1, prefix="e")
    assert Consumer(recorder, "pod1", log).drain().applied_cut == 5


def test_a_stuck_or_missing_lake_holds_trimming_back(dsn: str, log: ValkeyLog, recorder: Recorder) -> None:
    for prefix in ("a", "b"):
        publish(dsn, log, 1, prefix=prefix)
    Consumer(recorder, "pod1", log).drain()
    report_lake(log, 1)
    later = utc_now() + timedelta(days=2)
    assert trim_log(log, "pod1", clock=lambda: later).kept_from_cut == 1
    log.forget_projection("pod1", "lake")
    assert trim_log(log, "pod1", clock=lambda: later).kept_from_cut == 1
    report_lake(log, 2)
    assert trim_log(log, "pod1", clock=lambda: later).kept_from_cut == 2


def test_what_needs_a_trimmed_cut_sees_a_gap(
    dsn: str, log: ValkeyLog, recorder: Recorder, make_database: MakeDatabase
) -> None:
    for prefix in ("a", "b", "c"):
        publish(dsn, log, 2, prefix=prefix)
    Consumer(recorder, "pod1", log).drain()
    report_lake(log, 3)
    trim_log(log, "pod1")
    newcomer = Recorder(make_database(), name="newcomer")
    assert observe(newcomer, "pod1", log).state == "gap"
    with pytest.raises(LogGapError):
        Consumer(newcomer, "pod1", log).drain()


def test_a_running_consumer_follows_groups_and_outlives_its_store(
    dsn: str, log: ValkeyLog, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.consumer.RETRY_SECONDS", 0.05)
    failures = [RuntimeError("the store is away")]

    def fail_once(work: Work) -> None:
        if failures:
            raise failures.pop()

    recorder.before_commit = fail_once
    stop = threading.Event()
    consumer = Consumer(recorder, "pod1", log, group_window_seconds=1.0)
    thread = threading.Thread(target=consumer.run, args=(stop,))
    thread.start()
    try:
        events = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            for number in range(12):
                events += insert_events(dsn, 2, prefix=f"{number}-")
                register_cut(connection, SHAPE, registered_by="test")
        make_relay(dsn, log).drain()
        assert comes_true(lambda: len(recorder.applied()) == len(events), seconds=60), "the consumer stands still"
    finally:
        stop.set()
        thread.join()
    assert ids_of(recorder.applied()) and sorted(ids_of(recorder.applied())) == sorted(events)
    assert len(recorder.works) < 12, "cuts that arrive within the window share a commit"
    assert [item.projection for item in log.progress("pod1")] == ["recorder"]
