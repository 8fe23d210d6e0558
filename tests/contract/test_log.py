"""What every log must do, whichever server it is on: each adapter passes all of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import redis

from contracts.errors import InputError, LogDivergedError, LogGapError, LogUnavailableError, SettingsError
from contracts.settings import Settings
from contracts.valkey import trouble_of
from streams import codec
from streams.log import ChunkManifest, EntryId, EventLog, LogEntry, Manifest, Progress, entry_place
from streams.logs import ADAPTERS, Adapter, build_log, log_at
from streams.valkey_log import ValkeyLog
from streams.valkey_server import unavailable
from tests.streams_support import stored_events

POD, EPOCH, PARTITIONS = "pod1", "system.1.1", 3
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


AWAY: dict[Adapter, str] = {ValkeyLog: "redis://127.0.0.1:9/0"}
"""By adapter: where no server is."""

ASKED: dict[object, tuple[list[str], list[str]]] = {
    ValkeyLog: (["config", "get", "maxmemory"], ["config", "set", "maxmemory", "64mb"])
}
"""By adapter, in its server's own language: a command that changes nothing, and one that sets a limit of 64 MB."""


@pytest.fixture(params=sorted(set(ADAPTERS.values()), key=repr), ids=lambda adapter: adapter.__name__)
def log(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[EventLog]:
    """An empty log; an adapter of another server brings its fixture here."""
    urls = {ValkeyLog: valkey_url}
    opened: EventLog = request.param(urls[request.param])
    yield opened
    opened.close()


def entry(cut: int, partition: int = 0, chunk: int = 0, *, seed: int = 1, generation: int = 1) -> LogEntry:
    events = stored_events(3, seed=seed)
    at = EntryId(generation=generation, partition=partition, cut=cut, chunk=chunk)
    checksum = codec.checksum(events, place=entry_place(POD, EPOCH, at))
    return LogEntry(at=at, epoch=EPOCH, events=3, checksum=checksum, data=codec.encode(events))


def manifest(cut: int, *entries: LogEntry, generation: int = 1) -> Manifest:
    partitions = tuple(
        tuple(ChunkManifest(events=one.events, checksum=one.checksum) for one in entries if one.at.partition == number)
        for number in range(PARTITIONS)
    )
    return Manifest(
        cut=cut,
        epoch=EPOCH,
        snapshot=f"{cut}:{cut}:",
        registered_at=NOW,
        partition_function="f",
        chunk_rows=3,
        codec="c",
        partitions=partitions,
        oldest_recorded_at=NOW if entries else None,
        generation=generation,
        published_at=NOW + timedelta(seconds=cut),
    )


def publish(log: EventLog, cut: int, *, seed: int = 1, generation: int = 1, is_staged: bool = False) -> list[LogEntry]:
    """Append a cut with an entry in two partitions, as a relay does."""
    entries = [entry(cut, number, seed=seed, generation=generation) for number in (0, 2)]
    log.append(POD, entries)
    log.append_manifest(POD, manifest(cut, *entries, generation=generation), is_staged=is_staged)
    return entries


def cuts(log: EventLog, after_cut: int = 0) -> list[int]:
    return [one.cut for one in log.manifests(POD, after_cut, limit=100)]


def test_an_empty_log_ends_before_its_first_cut(log: EventLog) -> None:
    tail = log.tail(POD, PARTITIONS)
    assert (tail.generation, tail.manifest_cut, tail.manifest) == (1, 0, None)
    assert tail.entry_cuts == {0: 0, 1: 0, 2: 0}
    assert cuts(log) == [] and log.progress(POD) == [] and log.retracted(POD) == [] and log.trim(POD, 5) == 0


def test_what_was_appended_is_read_by_its_place(log: EventLog) -> None:
    first, second = publish(log, 1), publish(log, 2, seed=2)
    assert cuts(log) == [1, 2] and cuts(log, 1) == [2] and cuts(log, 2) == []
    assert [one.cut for one in log.manifests(POD, 0, limit=1)] == [1]
    places = [one.at for one in (second[1], first[0])]
    assert log.fetch(POD, places) == [second[1].data, first[0].data]
    tail = log.tail(POD, PARTITIONS)
    assert (tail.manifest_cut, tail.entry_cuts) == (2, {0: 2, 1: 0, 2: 2})
    assert tail.manifest == manifest(2, *second)
    assert log.tail("pod2", 1).manifest_cut == 0, "pods do not meet"


def test_nobody_is_kept_waiting_for_what_is_there_or_for_longer_than_asked(log: EventLog) -> None:
    publish(log, 1)
    assert [one.cut for one in log.manifests(POD, 0, limit=9, block_milliseconds=60_000)] == [1]
    assert log.manifests(POD, 1, limit=9, block_milliseconds=20) == []


def test_the_same_again_is_fine_however_often(log: EventLog) -> None:
    for _ in range(3):
        publish(log, 1)
        publish(log, 2)
        # Another run of the relay: another moment, the same events.
        later = msgspec.structs.replace(manifest(2, entry(2), entry(2, 2)), published_at=NOW + timedelta(days=1))
        log.append_manifest(POD, later)
    assert cuts(log) == [1, 2]
    assert log.tail(POD, PARTITIONS).manifest == manifest(2, entry(2), entry(2, 2)), "what was there first stays"


def test_other_events_under_a_place_that_is_taken_are_refused(log: EventLog) -> None:
    (kept, *_) = publish(log, 1)
    with pytest.raises(LogDivergedError, match="other events"):
        log.append(POD, [entry(1, seed=2)])
    with pytest.raises(LogDivergedError, match="another one than the outbox gives"):
        log.append_manifest(POD, manifest(1, entry(1, seed=2)))
    assert log.fetch(POD, [kept.at]) == [kept.data]


def test_a_place_that_was_passed_is_refused(log: EventLog) -> None:
    publish(log, 5)
    with pytest.raises(LogDivergedError, match="does not hold it"):
        log.append(POD, [entry(4)])
    with pytest.raises(LogDivergedError, match="has lost its manifest of cut 4"):
        log.append_manifest(POD, manifest(4))


def test_what_is_gone_is_a_gap_and_never_something_else(log: EventLog) -> None:
    (gone, other), (kept, _) = publish(log, 1), publish(log, 2)
    assert log.trim(POD, 2) == 2
    assert cuts(log) == [2] and log.fetch(POD, [kept.at]) == [kept.data]
    for place in (gone.at, other.at, replace(kept.at, chunk=1), replace(kept.at, generation=2)):
        with pytest.raises(LogGapError, match=f"cut {place.cut}, chunk {place.chunk}"):
            log.fetch(POD, [kept.at, place])
    assert log.trim(POD, 3) == 2
    tail = log.tail(POD, PARTITIONS)
    assert (tail.manifest_cut, tail.manifest, tail.entry_cuts[0]) == (2, None, 2), "it knows where it ended"
    with pytest.raises(LogDivergedError):
        log.append(POD, [entry(2)])


def test_a_generation_is_seen_at_once_when_it_is_switched_to(log: EventLog) -> None:
    kept, *_ = [publish(log, cut) for cut in (1, 2, 3)]
    assert log.begin_generation(POD, 2) == 2
    publish(log, 2, seed=9, generation=2, is_staged=True)
    assert [one.generation for one in log.manifests(POD, 0, limit=9)] == [1, 1, 1] and log.tail(POD, 1).generation == 1
    # Whoever republished was killed; the next one begins with nothing of that.
    assert log.begin_generation(POD, 2) == 2
    new = publish(log, 2, seed=8, generation=2, is_staged=True)
    log.switch_generation(POD, 2)
    assert [(one.cut, one.generation) for one in log.manifests(POD, 0, limit=9)] == [(1, 1), (2, 2)]
    assert log.fetch(POD, [kept[0].at, new[0].at]) == [kept[0].data, new[0].data]
    assert log.tail(POD, PARTITIONS).generation == 2 and log.tail(POD, PARTITIONS).manifest_cut == 2


def test_a_generation_without_a_manifest_is_empty(log: EventLog) -> None:
    publish(log, 1)
    log.switch_generation(POD, log.begin_generation(POD, 1))
    assert cuts(log) == [] and log.tail(POD, PARTITIONS).manifest_cut == 0
    publish(log, 1, seed=4, generation=2)
    assert cuts(log) == [1]


@pytest.mark.parametrize("after_cut", [0, 1, 2, 3])
def test_what_is_retracted_is_set_aside_and_not_lost(log: EventLog, after_cut: int) -> None:
    published = {cut: publish(log, cut) for cut in (1, 2, 3)}
    log.retract(POD, after_cut)
    assert cuts(log) == list(range(1, after_cut + 1))
    tail = log.tail(POD, PARTITIONS)
    assert (tail.generation, tail.manifest_cut) == (2, after_cut)
    aside = log.retracted(POD)
    assert [one.cut for one in aside] == list(range(after_cut + 1, 4))
    for one in aside:
        assert log.fetch(POD, [published[one.cut][0].at]) == [published[one.cut][0].data]
    publish(log, after_cut + 1, seed=7, generation=2)
    assert cuts(log)[-1] == after_cut + 1
    log.forget_retracted(POD)
    assert log.retracted(POD) == []


def test_a_log_that_was_trimmed_and_retracted_knows_where_it_ends(log: EventLog) -> None:
    for cut in (1, 2, 3):
        publish(log, cut)
    log.trim(POD, 3)
    log.retract(POD, 2)
    assert log.tail(POD, PARTITIONS).manifest_cut == 2 and log.tail(POD, PARTITIONS).manifest is None


def test_projections_report_and_are_forgotten(log: EventLog) -> None:
    for name, cut in (("views", 1), ("lake", 4), ("views", 3)):
        log.report_progress(POD, Progress(projection=name, applied_cut=cut, reported_at=NOW))
    assert [(one.projection, one.applied_cut, one.reported_at) for one in log.progress(POD)] == [
        ("lake", 4, NOW),
        ("views", 3, NOW),
    ]
    log.forget_projection(POD, "lake")
    log.forget_projection(POD, "nobody")
    assert [one.projection for one in log.progress(POD)] == ["views"]


def test_a_torn_append_is_finished_by_doing_it_again(log: EventLog) -> None:
    """A relay that is killed has appended some of its entries; whoever is next appends all of them."""
    rng = random.Random(5)
    entries = [entry(1, partition, chunk) for partition in range(PARTITIONS) for chunk in range(3)]
    for _ in range(5):
        log.append(POD, entries[: rng.randrange(len(entries))])
    log.append(POD, entries)
    log.append_manifest(POD, manifest(1, *entries))
    assert log.fetch(POD, [one.at for one in entries]) == [one.data for one in entries]


def test_a_server_that_is_there_says_what_it_holds_and_may_hold(log: EventLog) -> None:
    log.ping()
    reading, limiting = ASKED[type(log)]
    before = log.memory()
    assert before.limit_bytes is None and 0 < before.used_bytes < before.machine_bytes and not before.is_full
    assert log.is_reading(reading) and not log.is_reading(limiting)
    try:
        log.ask(limiting)
        assert log.memory().limit_bytes == 64 << 20 and not log.memory().is_full
    finally:
        log.ask([*limiting[:-1], "0"])
    assert not replace(before, limit_bytes=before.used_bytes + 1).is_full
    assert replace(before, limit_bytes=before.used_bytes).is_full


def test_what_is_asked_in_the_servers_language_is_answered_as_text(log: EventLog) -> None:
    publish(log, 1)
    assert log.ask(ASKED[type(log)][0]) == ["maxmemory: 0"]
    with pytest.raises(InputError, match="refuses no-such-command: "):
        log.ask(["no-such-command"])
    assert cuts(log) == [1], "it goes on after what was refused"


@pytest.mark.parametrize("adapter", AWAY, ids=lambda adapter: adapter.__name__)
def test_a_server_that_is_away_is_said_in_the_ports_own_words(adapter: Adapter) -> None:
    with closing(adapter(AWAY[adapter])) as log:
        progress = Progress(projection="lake", applied_cut=1, reported_at=NOW)
        calls: list[Callable[[], object]] = [
            lambda: log.tail(POD, 1),
            lambda: log.append(POD, [entry(1)]),
            lambda: log.append_manifest(POD, manifest(1)),
            lambda: log.manifests(POD, 0, limit=1),
            lambda: log.fetch(POD, [entry(1).at]),
            lambda: log.begin_generation(POD, 1),
            lambda: log.switch_generation(POD, 2),
            lambda: log.retract(POD, 0),
            lambda: log.retracted(POD),
            lambda: log.forget_retracted(POD),
            lambda: log.report_progress(POD, progress),
            lambda: log.forget_projection(POD, "lake"),
            lambda: log.progress(POD),
            lambda: log.trim(POD, 1),
            log.ping,
            log.memory,
            lambda: log.ask(ASKED[adapter][0]),
        ]
        for call in calls:
            with pytest.raises(LogUnavailableError, match=r"The log does not answer: .*tieout status") as said:
                call()
            assert said.value.reason in str(said.value) and "refused" in said.value.reason


def test_a_full_server_takes_no_entries_and_lets_copies_report(valkey_url: str) -> None:
    with closing(ValkeyLog(valkey_url)) as log, redis.Redis.from_url(valkey_url) as client:
        publish(log, 1)
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(LogUnavailableError, match="takes no entries: its memory is full"):
                publish(log, 2)
            log.report_progress(POD, Progress(projection="lake", applied_cut=1, reported_at=NOW))
            assert log.trim(POD, 2) == 2
        finally:
            client.config_set("maxmemory", "0")
        publish(log, 2)
        assert cuts(log) == [2]


def test_entries_are_shown_as_text_and_what_was_asked_leaves_no_trace(valkey_url: str) -> None:
    with closing(ValkeyLog(valkey_url)) as log:
        (first, _) = publish(log, 1)
        shown = log.ask(["xrange", log.entries_key(POD, 1, 0), "-", "+"])
        assert shown[0].strip() == "1-0" and any("\\x" in line for line in shown), "an entry's bytes are no text"
        log.ask(["select", "15"])
        assert cuts(log) == [1] and log.fetch(POD, [first.at]) == [first.data]


def test_a_server_that_refuses_is_said_in_the_ports_own_words(valkey_url: str) -> None:
    with closing(ValkeyLog(valkey_url)) as log, redis.Redis.from_url(valkey_url) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(LogUnavailableError, match=r"refuses what it is asked: .*NOREPLICAS.*tieout status"):
                publish(log, 1)
        finally:
            client.config_set("min-replicas-to-write", 0)
    stranger = log_at(valkey_url.replace("redis://:", "redis://:not-"))
    with closing(stranger), pytest.raises(LogUnavailableError, match=r"does not answer: .*password"):
        stranger.ping()


def test_a_full_disk_is_named() -> None:
    error = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
    assert str(unavailable(trouble_of(error))) == (
        "The log takes no entries: its disk is full "
        "(MISCONF Errors writing to the AOF file: No space left on device). Make room there."
    )


@pytest.mark.parametrize(
    ("url", "begins"), [("kafka://127.0.0.1:9092", "begins with kafka://"), ("127.0.0.1", "has no scheme")]
)
def test_a_url_that_no_adapter_knows_is_refused_in_a_sentence(settings: Settings, url: str, begins: str) -> None:
    with pytest.raises(SettingsError, match=f"TIEOUT_LOG_URL {begins}; the log may be at redis://"):
        build_log(replace(settings, log_url=url))
