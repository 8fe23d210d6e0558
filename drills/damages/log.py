"""Damages of the log: entries lost or altered before or after they were read; manifests lost.

Belongs here: these damages. Does not belong here: their required outcomes (`drills/damages/rounds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pyarrow.compute as pc

from contracts.errors import StackError
from contracts.ownership import PROJECTED
from drills.damages.place import WHOLE, Harm, Place, until
from streams import codec
from streams.log import EntryId
from streams.logs import build_log
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
def _log(place: Place) -> Iterator[ValkeyLog]:
    """Open the log; StackError for one whose server these damages do not know: they are done behind the port."""
    with closing(build_log(place.settings)) as log:
        if not isinstance(log, ValkeyLog):
            raise StackError("Damages of the log are known for Valkey and Redis only.")
        yield log


def _newest_entry(log: ValkeyLog, pod: str, after_cut: int) -> EntryId | None:
    """Return where the newest entry of the cuts after `after_cut` is; None if these have no events."""
    for manifest in reversed(log.manifests(pod, after_cut, limit=10_000)):
        for partition, chunks in enumerate(manifest.partitions):
            if chunks:
                return EntryId(
                    generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=len(chunks) - 1
                )
    return None


def _stream_and_id(log: ValkeyLog, pod: str, at: EntryId) -> tuple[str, str]:
    return log.entries_key(pod, at.generation, at.partition), f"{at.cut}-{at.chunk}"


def lose_entry(place: Place) -> Harm:
    """Delete the newest entry of the log that the lake has read."""
    lake_cut = place.lake_cut()
    with _log(place) as log:
        read = [manifest for manifest in log.manifests(place.pod, 0, limit=10_000) if manifest.cut <= lake_cut]
        newest = next(manifest for manifest in reversed(read) if manifest.events)
        partition = next(number for number, chunks in enumerate(newest.partitions) if chunks)
        log.ask(["xdel", log.entries_key(place.pod, newest.generation, partition), f"{newest.cut}-0"])
    return WHOLE


@contextmanager
def _unread(place: Place) -> Iterator[tuple[ValkeyLog, EntryId]]:
    """Stop all readers of the pod's log until an entry is published; yield the log and its newest entry."""
    workers = [f"{copy.name.replace('_', '-')}-{place.pod}" for copy in PROJECTED]
    with ExitStack() as stack, _log(place) as log:
        for worker in workers:
            if not stack.enter_context(place.tools.stopped(worker)):
                raise StackError(f"{worker} is no process of its own, so it cannot be kept from reading.")
        before = log.tail(place.pod, 1).manifest_cut

        def is_published() -> bool:
            place.place_orders(waits=False)  # the orders may all be in other pods
            return _newest_entry(log, place.pod, before) is not None

        until(is_published, f"A new entry in the log of {place.pod}")
        newest = _newest_entry(log, place.pod, before)
        assert newest is not None
        yield log, newest


def lose_unread_entry(place: Place) -> Harm:
    """Delete the newest entry before the lake or a view has read it, so that they wait for a lost entry."""
    with _unread(place) as (log, newest):
        log.ask(["xdel", *_stream_and_id(log, place.pod, newest)])
    return WHOLE


def alter_unread_entry(place: Place) -> Harm:
    """Change the events in the newest entry before the lake or a view has read it.

    Valkey cannot change an entry, so we write the whole stream again.
    """
    with _unread(place) as (log, newest):
        events = codec.decode(log.fetch(place.pod, [newest])[0])
        payloads = pc.replace_substring(events["payload"], '"version":', '"version":1')
        altered = events.set_column(events.schema.get_field_index("payload"), "payload", payloads)
        stream, entry_id = _stream_and_id(log, place.pod, newest)
        log.ask(["eval", REPLACE_ENTRY, "1", stream, entry_id, codec.encode(altered.cast(codec.STORED_SCHEMA))])
    return WHOLE


def lose_unread_cuts(place: Place) -> Harm:
    """Delete the pod's whole log while its readers are stopped; the relay continues with a later cut.

    A running relay does not detect this: it appends the next cut to the empty streams.
    """
    with _unread(place) as (log, _):
        lost = log.tail(place.pod, 1).manifest_cut
        log.ask(["del", *log.ask(["keys", f"{{tieout:{place.pod}}}:*"])])

        def is_published() -> bool:
            place.place_orders(waits=False)  # the orders may all be in other pods
            return log.tail(place.pod, 1).manifest_cut > lost

        until(is_published, f"A cut after {lost} in the log of {place.pod}")
    return WHOLE


def lose_manifest(place: Place) -> Harm:
    """Delete the manifest of a cut with events, not the newest one, which its relay would state again by itself."""
    with _log(place) as log:
        stated = [manifest.cut for manifest in log.manifests(place.pod, 0, limit=1_000) if any(manifest.partitions)]
        chosen = stated[(len(stated) - 1) // 2]
        log.ask(["xdel", log.manifests_key(place.pod), f"{chosen}-0"])
    return WHOLE
