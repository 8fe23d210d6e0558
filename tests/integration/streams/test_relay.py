"""The relay on real servers: it goes on after a crash at any step, and refuses what it must not publish."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from contracts.errors import EpochChangedError, LogDivergedError, PropagationError, RelayBusyError, StackError
from contracts.settings import PodSettings, Settings
from contracts.waiting import comes_true
from streams import codec
from streams import outbox_reading as outbox
from streams.consumer import Consumer
from streams.cuts import CutShape, register_cut, take_reconciler_cut
from streams.draining import drain_pod, observe_pod
from streams.log import EntryId, LogEntry
from streams.outbox_reading import RELAY_LOCK, held_by, observe_alone, observe_outbox, prune
from streams.valkey_log import ValkeyLog
from tests.streams_support import (
    SHAPE,
    Crash,
    Recorder,
    crash_at,
    create_outbox,
    ids_of,
    insert_event,
    insert_events,
    make_relay,
)

MakeDatabase = Callable[..., str]


def published(log: ValkeyLog, pod: str = "pod1") -> list[tuple[int, str]]:
    """Return (cut, event id) of everything the manifests name, per cut in order of position."""
    found = []
    for manifest in log.manifests(pod, 0, limit=1_000):
        rows: list[dict[str, Any]] = []
        for partition, chunks in enumerate(manifest.partitions):
            places = [
                EntryId(generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=chunk)
                for chunk in range(len(chunks))
            ]
            for data in log.fetch(pod, places):
                rows += codec.decode(data).to_pylist()
        found += [(manifest.cut, row["event_id"]) for row in sorted(rows, key=lambda row: row["position"])]
    return found


def test_a_drain_publishes_everything_committed_before_it(dsn: str, log: ValkeyLog) -> None:
    first = insert_events(dsn, 95)
    result = make_relay(dsn, log).drain()
    assert (result.cut, result.cuts_published, result.events_published) == (1, 1, 95)
    again = make_relay(dsn, log).drain()
    assert (again.cut, again.cuts_published, again.events_published) == (1, 0, 0)
    second = insert_events(dsn, 3, prefix="b")
    assert make_relay(dsn, log).drain().cut == 2
    assert published(log) == [*((1, event) for event in first), *((2, event) for event in second)]


def test_a_relay_that_ends_leaves_the_pod_to_the_next_at_once(dsn: str, log: ValkeyLog) -> None:
    for number in range(1, 31):
        insert_events(dsn, 1, prefix=f"e{number}-")
        assert make_relay(dsn, log).drain().cut == number


def test_an_empty_reconciler_cut_has_a_manifest(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 1)
    make_relay(dsn, log).drain()
    for _ in range(2):
        with take_reconciler_cut(dsn, SHAPE, registered_by="reconciler"):
            pass
    assert make_relay(dsn, log).drain().cut == 3
    assert [(manifest.cut, manifest.events) for manifest in log.manifests("pod1", 0, limit=9)] == [
        (1, 1),
        (2, 0),
        (3, 0),
    ]


def test_what_was_committed_before_a_reconciler_s_cut_and_after_is_drained(dsn: str, log: ValkeyLog) -> None:
    with psycopg.connect(dsn) as slow:
        events = [insert_event(slow, "slow", 1)]
        with take_reconciler_cut(dsn, SHAPE, registered_by="reconciler"):
            pass
        slow.commit()
    assert make_relay(dsn, log).drain().cut == 2
    assert published(log) == [(2, events[0])]


STEPS = [("register", 0), ("entries", 0), ("entries", 1), ("entries", 3), ("manifest", 0), ("published", 0)]


@pytest.mark.parametrize(("step", "after"), STEPS)
def test_a_crash_at_any_step_loses_and_repeats_nothing(dsn: str, log: ValkeyLog, step: str, after: int) -> None:
    events = insert_events(dsn, 95)
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at(step, after=after)).drain()
    events += insert_events(dsn, 5, prefix="later")
    result = make_relay(dsn, log).drain()
    assert [event for _, event in published(log)] == events
    assert result.cut == log.tail("pod1", SHAPE.partition_count).manifest_cut


def test_a_crash_between_two_cuts_goes_on_with_the_second(dsn: str, log: ValkeyLog) -> None:
    events = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for prefix in ("a", "b", "c"):
            events += insert_events(dsn, 20, prefix=prefix)
            register_cut(connection, SHAPE, registered_by="test")
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at("manifest", after=1)).drain()
    assert make_relay(dsn, log).drain().cuts_published == 2
    assert [event for _, event in published(log)] == events


def test_one_relay_per_pod(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 1)

    def second(name: str) -> None:
        with psycopg.connect(dsn) as connection:
            assert "tieout relay pod1" in (held_by(connection) or "")
        with pytest.raises(RelayBusyError, match="already published by tieout relay pod1"):
            make_relay(dsn, log).drain()

    make_relay(dsn, log, step=second).drain()
    with psycopg.connect(dsn, autocommit=True) as connection:
        # The server notices a moment later that the first one has gone.
        assert comes_true(lambda: held_by(connection) is None, seconds=30), "it is still held"
    assert make_relay(dsn, log).drain().cut == 1


def test_a_changed_epoch_stops_the_relay(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 1)
    make_relay(dsn, log).drain()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update oltp.cuts set epoch = 'another'")
    with pytest.raises(EpochChangedError):
        make_relay(dsn, log).drain()


def test_a_log_that_is_ahead_of_the_database_stops_the_relay(dsn: str, log: ValkeyLog) -> None:
    for prefix in ("a", "b"):
        insert_events(dsn, 1, prefix=prefix)
        make_relay(dsn, log).drain()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("delete from oltp.cuts where cut = 2")
    with pytest.raises(LogDivergedError, match="ends at cut 2, but the database knows 1"):
        make_relay(dsn, log).drain()


def test_another_snapshot_under_a_published_number_stops_the_relay(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 1)
    make_relay(dsn, log).drain()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update oltp.cuts set snapshot = pg_current_snapshot()")
    with pytest.raises(LogDivergedError, match="another one in the database than in the log"):
        make_relay(dsn, log).drain()


def test_other_events_under_an_id_are_not_taken_for_the_same(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 30)
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at("manifest")).drain()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update oltp.outbox set merchant_id = merchant_id, payload = '{}' where aggregate_id = 'a3'")
    with pytest.raises(LogDivergedError, match="holds other events"):
        make_relay(dsn, log).drain()


def test_an_id_that_was_passed_without_its_entry_is_not_taken_for_there(
    dsn: str, log: ValkeyLog, server: redis.Redis
) -> None:
    insert_events(dsn, 30)
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at("manifest")).drain()
    for partition in range(3):
        server.xdel(log.entries_key("pod1", 1, partition), "1-0")
    with pytest.raises(LogDivergedError, match="does not hold it"):
        make_relay(dsn, log).drain()


def test_a_log_that_lost_its_end_is_filled_again(dsn: str, log: ValkeyLog, server: redis.Redis) -> None:
    events = insert_events(dsn, 30)
    make_relay(dsn, log).drain()
    server.flushall()
    events += insert_events(dsn, 2, prefix="b")
    assert make_relay(dsn, log).drain().cut == 2
    assert [event for _, event in published(log)] == events


def test_a_log_that_lost_pruned_cuts_starts_behind_them(dsn: str, log: ValkeyLog, server: redis.Redis) -> None:
    for prefix in ("a", "b", "c"):
        insert_events(dsn, 2, prefix=prefix)
        make_relay(dsn, log).drain()
    prune(dsn, 2)
    server.flushall()
    assert make_relay(dsn, log).drain().cut == 3
    assert [manifest.cut for manifest in log.manifests("pod1", 0, limit=9)] == [3]


def test_lost_entries_are_published_again_into_a_new_generation(
    dsn: str, log: ValkeyLog, server: redis.Redis, make_database: MakeDatabase
) -> None:
    recorder = Recorder(make_database())
    consumer = Consumer(recorder, "pod1", log)
    events = []
    for prefix in ("a", "b", "c"):
        events += insert_events(dsn, 9, prefix=prefix)
        make_relay(dsn, log).drain()
        if prefix == "a":
            consumer.drain()
    for partition in range(3):
        server.delete(log.entries_key("pod1", 1, partition))
    with pytest.raises(PropagationError, match="no longer holds"):
        consumer.drain()
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at("published")).republish(2)
    result = make_relay(dsn, log).republish(2)
    assert (result.cut, result.cuts_published, result.events_published) == (3, 2, 18)
    consumer.drain()
    events += insert_events(dsn, 4, prefix="d")
    assert make_relay(dsn, log).drain().cut == 4
    consumer.drain()
    assert sorted(ids_of(recorder.applied())) == sorted(events)
    assert [manifest.generation for manifest in log.manifests("pod1", 0, limit=9)] == [1, 2, 2, 2]


@pytest.mark.parametrize("fields", [{"a": "stranger's"}, {"manifest": "{}"}], ids=["no field", "no manifest"])
@pytest.mark.parametrize("place", ["manifests", "entries"])
def test_what_no_relay_wrote_is_passed_over_and_republishing_leaves_it_behind(
    dsn: str,
    log: ValkeyLog,
    server: redis.Redis,
    make_database: MakeDatabase,
    place: str,
    fields: dict[Any, Any],
) -> None:
    recorder = Recorder(make_database())
    consumer = Consumer(recorder, "pod1", log)
    events = insert_events(dsn, 9)
    key = log.manifests_key("pod1") if place == "manifests" else log.entries_key("pod1", 1, 0)
    said = f"no relay wrote .*{key}.*republish pod1 --from-cut 2"
    relay = make_relay(dsn, log)
    relay.drain()
    server.xadd(key, fields)
    consumer.drain()
    assert log.tail("pod1", 3).own_cut == 1, "nobody is behind"
    events += insert_events(dsn, 9, prefix="b")
    # A relay that has looked at the log before, as one does that runs: the log refuses its next cut.
    (newest,) = log.manifests("pod1", 0, limit=9)
    with pytest.raises(LogDivergedError, match=said):
        if place == "manifests":
            log.append_manifest("pod1", msgspec.structs.replace(newest, cut=2))
        else:
            at = EntryId(generation=1, partition=0, cut=2, chunk=0)
            log.append("pod1", [LogEntry(at=at, epoch=newest.epoch, data=b"x", checksum="", events=0)])
    for _ in range(2):
        with pytest.raises(LogDivergedError, match=said):
            make_relay(dsn, log).drain()
    assert make_relay(dsn, log).republish(2).cut == 1, "the cut that the log has is the last one"
    assert make_relay(dsn, log).drain().cut == 2
    consumer.drain()
    assert sorted(ids_of(recorder.applied())) == sorted(events)
    assert log.tail("pod1", 3).strangers == ()


def test_pruned_cuts_are_not_republished(dsn: str, log: ValkeyLog) -> None:
    for prefix in ("a", "b", "c"):
        insert_events(dsn, 2, prefix=prefix)
        make_relay(dsn, log).drain()
    prune(dsn, 2)
    with pytest.raises(LogDivergedError, match="pruned through cut 2"):
        make_relay(dsn, log).republish(2)
    assert make_relay(dsn, log).republish(3).cuts_published == 1


def test_a_change_of_chunk_rows_does_not_change_cuts_that_are_registered(dsn: str, log: ValkeyLog) -> None:
    insert_events(dsn, 40)
    with pytest.raises(Crash):
        make_relay(dsn, log, step=crash_at("manifest")).drain()
    make_relay(dsn, log, shape=CutShape(partition_count=5, chunk_rows=100)).drain()
    insert_events(dsn, 40, prefix="b")
    make_relay(dsn, log, shape=CutShape(partition_count=5, chunk_rows=100)).drain()
    first, second = log.manifests("pod1", 0, limit=2)
    assert (len(first.partitions), first.chunk_rows) == (3, 10)
    assert (len(second.partitions), second.chunk_rows) == (5, 100)


def test_payloads_arrive_byte_for_byte(dsn: str, log: ValkeyLog, make_database: MakeDatabase) -> None:
    payload = '{ "b" :1.10,\n "a": "\\u00e9é東", "a": 1e3 }'
    insert_events(dsn, 1)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("update oltp.outbox set payload = %s::json", (payload,))
    make_relay(dsn, log).drain()
    recorder = Recorder(make_database())
    Consumer(recorder, "pod1", log).drain()
    row = recorder.works[0].entries[0].events.to_pylist()[0]
    assert row["payload"] == payload


def test_a_crash_within_a_large_cut_ends_the_reading_ahead(dsn: str, log: ValkeyLog) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        insert_event(connection, "a", 1)
        connection.execute(
            "insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version,"
            " event_type, schema_version, occurred_at, correlation_id, payload)"
            " select gen_random_uuid(), merchant_id, aggregate_type, 'b' || number, 1, event_type, 1, occurred_at,"
            " correlation_id, json_build_object('text', repeat('x', 900))"
            " from oltp.outbox, generate_series(1, 20000) as number"
        )
    shape = CutShape(partition_count=3, chunk_rows=500)
    with pytest.raises(Crash):
        make_relay(dsn, log, shape=shape, step=crash_at("entries", after=5)).drain()
    assert [thread.name for thread in threading.enumerate() if thread.name == "outbox-reader"] == []
    assert make_relay(dsn, log, shape=shape).drain().events_published == 20_001
    events = [event for _, event in published(log)]
    assert len(events) == len(set(events)) == 20_001


def test_a_server_that_cannot_be_reached_is_one_sentence(dsn: str, log: ValkeyLog) -> None:
    nowhere = dsn.rsplit("/", 1)[0] + "/no_such_database"
    with pytest.raises(StackError, match=r"^The outbox of pod1 could not be published: .*no_such_database"):
        make_relay(nowhere, log).drain()
    with pytest.raises(StackError, match="could not be published"):
        make_relay(dsn, ValkeyLog("redis://127.0.0.1:1/0")).drain()


def test_two_pods_do_not_meet(make_database: MakeDatabase, log: ValkeyLog) -> None:
    events = {}
    for pod in ("pod1", "pod2"):
        dsn = create_outbox(make_database("tieout_relay"))
        events[pod] = insert_events(dsn, 12, prefix=pod)
        make_relay(dsn, log, pod=pod).drain()
    assert {pod: [event for _, event in published(log, pod)] for pod in events} == events


def test_a_running_relay_publishes_and_a_drain_beside_it_waits_for_it(settings: Settings) -> None:
    from streams.relay import build_relay

    pod: PodSettings = settings.pods[0]
    stop = threading.Event()
    relay = threading.Thread(target=build_relay(pod, settings).run, args=(stop,))
    relay.start()
    try:
        assert comes_true(lambda: observe_pod(pod, settings).held_by, seconds=60), "the relay did not take its lock"
        with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
            cut = register_cut(connection, SHAPE, registered_by="test", is_forced=True)
        drained = drain_pod(pod, settings)
    finally:
        stop.set()
        relay.join()
    assert cut is not None and drained.cut == cut.cut
    assert drained.published_by.startswith("tieout relay pod1")
    assert drain_pod(pod, settings).published_by == "this process"
    assert observe_pod(pod, settings).held_by is None


def test_a_drain_takes_over_from_a_relay_that_ends(settings: Settings) -> None:
    from stack.composition.draining import _relay

    pod: PodSettings = settings.pods[0]
    stop = threading.Event()
    follower = threading.Thread(target=_relay, args=(pod, settings, stop))
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(pod.relay_dsn, autocommit=True) as holder:
            holder.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
            with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
                register_cut(connection, SHAPE, registered_by="test", is_forced=True)
            draining = pool.submit(drain_pod, pod, settings, timeout_seconds=60)
            assert not wait([draining], timeout=0.5).done, "a drain returned before the cut was published"
        assert draining.result().published_by == "this process"
        with psycopg.connect(pod.relay_dsn, autocommit=True) as holder:
            holder.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
            follower.start()
            follower.join(0.5)
            assert follower.is_alive(), "a relay gave up because another one was there"
    try:
        assert comes_true(lambda: observe_pod(pod, settings).held_by, seconds=60), "nobody took over"
    finally:
        stop.set()
        follower.join()


def has_published(log: ValkeyLog, number: int) -> bool:
    return len(published(log)) > number


@pytest.mark.parametrize("lost", ["tieout relay%", "tieout relay%reader"])
def test_a_relay_survives_the_loss_of_its_connections(dsn: str, log: ValkeyLog, postgres: Any, lost: str) -> None:
    from streams.relay import Pace

    stop = threading.Event()
    relay = make_relay(dsn, log, pace=Pace(retry_seconds=0.05))
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        for number in itertools.count():
            insert_events(dsn, 1, prefix=f"{number}-")
            assert comes_true(partial(has_published, log, number), seconds=60), "the relay stands still"
            if number == 3:
                break
            with psycopg.connect(postgres.superuser_dsn("postgres"), autocommit=True) as superuser:
                superuser.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like %s", (lost,)
                )
    finally:
        stop.set()
        thread.join()


def test_a_long_outbox_is_counted_up_to_a_limit(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    insert_events(dsn, 30)
    assert observe_outbox(dsn, 0).unpublished_events == 30
    monkeypatch.setattr(outbox, "COUNTED_MAX", 20)
    seen = observe_outbox(dsn, 0)
    assert seen.unpublished_events == 20 and seen.oldest_unpublished_seconds > 0
    assert observe_alone(dsn) == (0, None)
