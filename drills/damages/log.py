"""Damages of the log: entries lost or altered before or after they were read; manifests lost.

Belongs here: these damages. Does not belong here: their required outcomes (`drills/damages/rounds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow.compute as pc
import redis

from contracts.errors import StackError
from contracts.ownership import PROJECTED
from drills.damages.place import WHOLE, Harm, Place, until
from streams import codec
from streams.valkey_log import ValkeyLog

REPLACE_ENTRY = """
local entries = server.call('XRANGE', KEYS[1], '-', '+')
server.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
    local fields = entry[2]
    for place = 1, #fields, 2 do
        if entry[1] == ARGV[1] and fields[place] == 'events' then fields[place + 1] = ARGV[2] end
    end
    server.call('XADD', KEYS[1], entry[1], unpack(fields))
end
"""


@contextmanager
def _log(place: Place) -> Iterator[tuple[ValkeyLog, redis.Redis]]:
    log = ValkeyLog(place.settings.log_url)
    try:
        with redis.Redis.from_url(place.settings.log_url) as client:
            yield log, client
    finally:
        log.close()


def _newest_entry(log: ValkeyLog, client: redis.Redis, place: Place) -> tuple[str, bytes]:
    """Return stream and id of the newest entry."""
    generation = log.tail(place.pod, 1).generation
    found = []
    for partition in range(place.settings.partition_count):
        key = log.entries_key(place.pod, generation, partition)
        entries: Any = client.xrevrange(key, count=1)
        found += [(entry_id, key) for entry_id, _ in entries]
    entry_id, key = max(found, key=lambda one: tuple(map(int, one[0].split(b"-"))))
    return key, entry_id


def lose_entry(place: Place) -> Harm:
    """Delete the newest entry of the log that the lake has read."""
    lake_cut = place.lake_cut()
    with _log(place) as (log, client):
        read = [manifest for manifest in log.manifests(place.pod, 0, limit=10_000) if manifest.cut <= lake_cut]
        newest = next(manifest for manifest in reversed(read) if manifest.events)
        partition = next(number for number, chunks in enumerate(newest.partitions) if chunks)
        client.xdel(log.entries_key(place.pod, newest.generation, partition), f"{newest.cut}-0")
    return WHOLE


@contextmanager
def _unread(place: Place) -> Iterator[tuple[redis.Redis, str, bytes]]:
    """Stop all readers of the pod's log until an entry is published; yield a client, the entry's stream and its id."""
    workers = [f"{copy.name.replace('_', '-')}-{place.pod}" for copy in PROJECTED]
    with ExitStack() as stack, _log(place) as (log, client):
        for worker in workers:
            if not stack.enter_context(place.tools.stopped(worker)):
                raise StackError(f"{worker} is no process of its own, so it cannot be kept from reading.")
        before = _newest_entry(log, client, place)

        def is_published() -> bool:
            place.place_orders(waits=False)  # the orders may all be in other pods
            return _newest_entry(log, client, place) != before

        until(is_published, f"A new entry in the log of {place.pod}")
        yield client, *_newest_entry(log, client, place)


def lose_unread_entry(place: Place) -> Harm:
    """Delete the newest entry before the lake or a view has read it, so that they wait for a lost entry."""
    with _unread(place) as (client, key, entry_id):
        client.xdel(key, entry_id)
    return WHOLE


def alter_unread_entry(place: Place) -> Harm:
    """Change the events in the newest entry before the lake or a view has read it.

    Valkey cannot change an entry, so we write the whole stream again.
    """
    with _unread(place) as (client, key, entry_id):
        entries: Any = client.xrange(key, entry_id, entry_id)
        events = codec.decode(entries[0][1][b"events"])
        payloads = pc.replace_substring(events["payload"], '"version":', '"version":1')
        altered = events.set_column(events.schema.get_field_index("payload"), "payload", payloads)
        client.eval(REPLACE_ENTRY, 1, key, entry_id, codec.encode(altered.cast(codec.STORED_SCHEMA)))
    return WHOLE


def lose_unread_cuts(place: Place) -> Harm:
    """Delete the pod's whole log while its readers are stopped; the relay continues with a later cut.

    A running relay does not detect this: it appends the next cut to the empty streams.
    """
    with _unread(place) as (client, _, _), _log(place) as (log, _):
        lost = log.tail(place.pod, 1).manifest_cut
        client.delete(*list(client.scan_iter(match=f"{{tieout:{place.pod}}}:*", count=1_000)))

        def is_published() -> bool:
            place.place_orders(waits=False)  # the orders may all be in other pods
            return log.tail(place.pod, 1).manifest_cut > lost

        until(is_published, f"A cut after {lost} in the log of {place.pod}")
    return WHOLE


def lose_manifest(place: Place) -> Harm:
    """Delete the manifest of a cut with events, but not the newest, because the relay would write that one again."""
    with _log(place) as (log, client):
        stated = [manifest.cut for manifest in log.manifests(place.pod, 0, limit=1_000) if any(manifest.partitions)]
        key, chosen = log.manifests_key(place.pod), stated[(len(stated) - 1) // 2]
        entries: Any = client.xrange(key, min=f"{chosen}-0", count=1)
        client.xdel(key, entries[0][0])
    return WHOLE
