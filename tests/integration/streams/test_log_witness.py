"""The witness of the log on real servers: nothing that relays, trimming and repairs do is seen, and every cheat is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from contracts.sightings import KeptSighting, SightingKind
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import newest_sightings
from reconcile.witness_states import witness_states
from stack.servers.valkey import EmbeddedValkey
from streams import codec
from streams.epochs import retract_log
from streams.lag import trim_log
from streams.log import EntryId, Manifest, Progress
from streams.valkey_log import ValkeyLog
from tests.streams_support import SHAPE, Crash, crash_at, insert_events, make_relay, stored_events
from witness.log import LogWitness
from witness.watching import look_and_report

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REBUILD = """
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
    local fields = entry[2]
    if entry[1] == ARGV[1] then fields[2] = ARGV[2] end
    redis.call('XADD', KEYS[1], entry[1], unpack(fields))
end
"""
"""Writes a stream again with the same ids; the first field of one entry gets another value."""


@dataclass(kw_only=True)
class Watched:
    """A pod's outbox and log, with a witness."""

    dsn: str
    log: ValkeyLog
    server: redis.Redis
    control_dsn: str
    witness: LogWitness = field(init=False)

    def __post_init__(self) -> None:
        """Make the first witness."""
        self.witness = self._made()

    def again(self) -> None:
        """Make the witness of a new process."""
        self.witness.close()
        self.witness = self._made()

    def _made(self) -> LogWitness:
        return LogWitness(
            pod="pod1",
            log=self.log,
            control_dsn=self.control_dsn,
            pod_dsn=self.dsn,
            partition_count=SHAPE.partition_count,
            beat_seconds=0,
        )

    def publish(self, *prefixes: str) -> None:
        """Publish a cut per prefix, each with events of 30 aggregates."""
        for prefix in prefixes:
            insert_events(self.dsn, 30, prefix=prefix)
            make_relay(self.dsn, self.log).drain()

    def seen(self) -> list[KeptSighting]:
        """Look, and return all sightings."""
        self.witness.look_once()
        return newest_sightings(self.control_dsn)

    def trim(self, applied_cut: int) -> None:
        """Trim the log after the lake has applied a cut."""
        self.log.report_progress("pod1", Progress(projection="lake", applied_cut=applied_cut, reported_at=NOW))
        trim_log(self.log, "pod1")

    def manifest(self, cut: int) -> Manifest:
        """Return a manifest of the log."""
        return self.log.manifests("pod1", cut - 1, limit=1)[0]

    def partition(self, cut: int) -> int:
        """Return the first partition that has an entry of a cut."""
        return next(number for number, chunks in enumerate(self.manifest(cut).partitions) if chunks)

    def stream(self, cut: int) -> str:
        """Return the stream that holds the first entry of a cut."""
        return self.log.entries_key("pod1", self.manifest(cut).generation, self.partition(cut))


@pytest.fixture
def watched(dsn: str, log: ValkeyLog, server: redis.Redis, make_database: Callable[[str], str]) -> Iterator[Watched]:
    control_dsn = make_database("tieout_control")
    migrate_sightings(control_dsn)
    made = Watched(dsn=dsn, log=log, server=server, control_dsn=control_dsn)
    assert made.seen() == []
    yield made
    made.witness.close()


def test_what_relays_trimming_and_republishing_do_is_not_seen(watched: Watched) -> None:
    for prefix in ("a", "b", "c", "d"):
        watched.publish(prefix)
        assert watched.seen() == []
    watched.trim(2)
    assert watched.seen() == []
    make_relay(watched.dsn, watched.log).republish(3)
    assert watched.seen() == []
    watched.publish("e")
    watched.trim(5)
    make_relay(watched.dsn, watched.log).republish(5)
    watched.publish("f")
    assert watched.seen() == []


def test_what_happened_while_the_witness_was_away_follows_from_what_it_saw_before(watched: Watched) -> None:
    watched.publish("a")
    assert watched.seen() == []
    watched.publish("b", "c", "d")
    watched.trim(3)
    watched.again()
    assert watched.seen() == []
    watched.publish("e")
    watched.server.xdel(watched.stream(5), "5-0")
    watched.again()
    assert [sighting.kind for sighting in watched.seen()] == [SightingKind.LOST]


@pytest.mark.parametrize("after", range(4))
def test_a_relay_that_is_killed_within_a_cut_is_not_seen(watched: Watched, after: int) -> None:
    watched.publish("a")
    insert_events(watched.dsn, 95, prefix="b")
    with pytest.raises(Crash):
        make_relay(watched.dsn, watched.log, step=crash_at("entries", after=after)).drain()
    assert watched.seen() == []
    watched.publish("c")
    assert watched.seen() == []


def test_a_log_that_was_taken_back_to_a_cut_goes_on_unseen(watched: Watched) -> None:
    watched.publish("a", "b", "c")
    assert watched.seen() == []
    retract_log(watched.log, "pod1", 1, SHAPE.partition_count)
    assert watched.seen() == []
    watched.log.forget_retracted("pod1")
    retract_log(watched.log, "pod1", 0, SHAPE.partition_count)
    assert watched.seen() == []


def test_the_heartbeat_proves_that_it_sees(watched: Watched) -> None:
    assert watched.witness.look_once().proven_seconds_ago is not None
    with psycopg.connect(watched.control_dsn, autocommit=True) as control:
        assert look_and_report(watched.witness, control, str) == ""
    (state,) = witness_states(watched.control_dsn)
    assert (state.witness, state.pod, state.complaint) == ("log", "pod1", "")
    with closing(ValkeyLog("redis://127.0.0.1:9/0")) as away:
        watched.witness.log = away
        with psycopg.connect(watched.control_dsn, autocommit=True) as control:
            assert "does not answer" in look_and_report(watched.witness, control, str)


def delete_entry(watched: Watched) -> None:
    watched.server.xdel(watched.stream(2), "2-0")


def delete_manifest(watched: Watched) -> None:
    watched.server.xdel(watched.log.manifests_key("pod1"), "2-0")


def empty(watched: Watched) -> None:
    watched.server.flushall()


def delete_stream(watched: Watched) -> None:
    watched.server.delete(watched.stream(2))


def cut_off_entries(watched: Watched) -> None:
    watched.server.xtrim(watched.stream(3), minid="3-0", approximate=False)


def cut_off_everything(watched: Watched) -> None:
    keys: list[Any] = watched.server.keys("{tieout:pod1}:*")
    for key in keys:
        if watched.server.type(key) == b"stream" and not key.endswith(b":witness"):
            watched.server.xtrim(key, minid="3-0", approximate=False)


def begin_the_next_cut(watched: Watched) -> None:
    watched.server.xadd(watched.stream(3), {"events": codec.encode(stored_events(2))}, id="4-0")


def append_to_a_published_cut(watched: Watched) -> None:
    watched.server.xadd(watched.stream(3), {"events": codec.encode(stored_events(2))}, id="3-99")


def forge_manifest(watched: Watched) -> None:
    forged = msgspec.structs.replace(watched.manifest(3), cut=4, partitions=((), (), ()))
    watched.server.xadd(watched.log.manifests_key("pod1"), {"manifest": msgspec.json.encode(forged)}, id="4-0")


def append_nonsense(watched: Watched) -> None:
    watched.server.xadd(watched.log.manifests_key("pod1"), {"manifest": b"no manifest"}, id="4-0")


def change_manifest(watched: Watched) -> None:
    changed = msgspec.structs.replace(watched.manifest(2), registered_at=NOW)
    watched.server.eval(REBUILD, 1, watched.log.manifests_key("pod1"), "2-0", msgspec.json.encode(changed))


def change_entry(watched: Watched) -> None:
    at = EntryId(generation=1, partition=watched.partition(2), cut=2, chunk=0)
    events = codec.decode(watched.log.fetch("pod1", [at])[0])
    watched.server.eval(REBUILD, 1, watched.stream(2), "2-0", codec.encode(events.slice(1)))


LOST, UNANNOUNCED = SightingKind.LOST, SightingKind.UNANNOUNCED
CHEATS: dict[Callable[[Watched], None], SightingKind] = {
    delete_entry: LOST,
    delete_manifest: LOST,
    empty: LOST,
    delete_stream: LOST,
    cut_off_entries: LOST,
    cut_off_everything: LOST,
    begin_the_next_cut: UNANNOUNCED,
    append_to_a_published_cut: UNANNOUNCED,
    forge_manifest: UNANNOUNCED,
    append_nonsense: UNANNOUNCED,
    change_manifest: LOST,
    change_entry: LOST,
}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_cheat_is_seen_at_the_next_look_and_asks_to_compare_the_log(
    watched: Watched, cheat: Callable[[Watched], None]
) -> None:
    watched.publish("a", "b", "c")
    assert watched.seen() == []
    cheat(watched)
    found = watched.seen()
    expected = {(CHEATS[cheat], "pod1", "log", None)}
    assert {(one.kind, one.pod, one.copy, one.aggregate_id) for one in found} == expected
    watched.again()
    assert set(one.sighting_id for one in found) <= set(one.sighting_id for one in watched.seen())


def test_the_repair_of_a_lost_entry_is_not_seen(watched: Watched) -> None:
    watched.publish("a", "b", "c")
    assert watched.seen() == []
    delete_entry(watched)
    make_relay(watched.dsn, watched.log).republish(2)
    found = watched.seen()
    watched.publish("d")
    assert watched.seen() == found


@pytest.mark.parametrize(("is_durable", "kinds"), [(True, set()), (False, {SightingKind.LOST})])
def test_a_server_that_starts_again_is_seen_if_it_has_lost_something(
    dsn: str, make_database: Callable[[str], str], tmp_path: Path, is_durable: bool, kinds: set[SightingKind]
) -> None:
    control_dsn = make_database("tieout_control")
    migrate_sightings(control_dsn)
    server = EmbeddedValkey(name="own", folder=tmp_path / "valkey", log=tmp_path / "valkey.log", is_durable=is_durable)
    for starts in range(2):
        server.start()
        try:
            with closing(ValkeyLog(server.url())) as log, redis.Redis.from_url(server.url()) as client:
                watched = Watched(dsn=dsn, log=log, server=client, control_dsn=control_dsn)
                if starts == 0:
                    watched.publish("a")
                found = {one.kind for one in watched.seen()}
                watched.witness.close()
        finally:
            server.stop()
        assert found == (kinds if starts else set())


def test_a_witness_that_begins_late_says_that_it_was_blind(
    dsn: str, log: ValkeyLog, server: redis.Redis, make_database: Callable[[str], str]
) -> None:
    control_dsn = make_database("tieout_control")
    migrate_sightings(control_dsn)
    watched = Watched(dsn=dsn, log=log, server=server, control_dsn=control_dsn)
    watched.publish("a", "b", "c")
    watched.trim(2)
    assert [one.kind for one in watched.seen()] == [SightingKind.BLIND]
    watched.witness.close()
