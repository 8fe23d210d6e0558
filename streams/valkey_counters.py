"""Reads the counters of a pod's streams from a Valkey or Redis server, all at one moment.

Belongs here: the script, and what its answer means. Does not belong here: the names of keys (`streams/valkey_log.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import redis

from streams.counters import NO_ENTRY, EntryNumber, LogCounters, StatedManifest, StreamCounters

COUNTERS = """#!lua flags=no-writes,allow-oom
local function counters(key)
    local told = redis.pcall('xinfo', 'stream', key)
    if told['err'] then return false end
    local by_name = {}
    for place = 1, #told, 2 do by_name[told[place]] = told[place + 1] end
    return {
        by_name['entries-added'], by_name['length'], by_name['recorded-first-entry-id'],
        by_name['last-generated-id'], by_name['max-deleted-entry-id'],
    }
end
local streams = {}
for place = 5, #KEYS do streams[#streams + 1] = counters(KEYS[place]) end
local manifests = counters(KEYS[1])
local later = manifests and redis.call('xrange', KEYS[1], ARGV[1], '+', 'count', ARGV[2]) or {}
local beats = redis.pcall('xrevrange', KEYS[4], '+', '-', 'count', '1')
local said = beats[1] and beats[1][2][2] or ''
return {redis.call('get', KEYS[2]), redis.call('hget', KEYS[3], 'below'), manifests, streams, later, said}
"""
"""One call, so that manifests and entries are of the same moment. XINFO's own answer would bring two entries along."""

REPLACING = {
    *("del", "unlink", "rename", "renamenx", "restore", "restore-asking", "copy", "move", "migrate", "swapdb", "set"),
    *("xdel", "xsetid", "flushall", "flushdb", "expire", "expireat", "pexpire", "pexpireat", "debug", "replicaof"),
    *("slaveof", "xdelex", "xackdel", "getdel", "getex", "psync", "sync"),
}
"""Commands without one of which no stream gets into another one's place, and none begins again."""


def read_counters(
    client: redis.Redis,
    singles: Sequence[str],
    entries: Mapping[tuple[int, int], str],
    after_cut: int,
    limit: int,
) -> LogCounters:
    """Return the counters; `singles` are the keys of manifests, generation, trimming and heartbeat, in this order."""
    # Asked before the script: a replacement after this is seen at the latest with the next answer.
    about = cast(Mapping[str, Any], client.info("server"))
    commands = cast(Mapping[str, Any], client.info("commandstats"))
    keys = [*singles, *entries.values()]
    answer = cast(list[Any], client.eval(COUNTERS, len(keys), *keys, f"{after_cut + 1}-0", limit))
    generation, kept_from, manifests, streams, later, said = answer
    return LogCounters(
        server_run=str(about["run_id"]),
        replacements=sum(_calls(commands, name) for name in REPLACING),
        generation=int(generation or 1),
        kept_from_cut=int(kept_from or 0),
        manifests=_counters(manifests),
        entries={at: found for at, told in zip(entries, streams, strict=True) if (found := _counters(told))},
        later=tuple(stated_manifest(*entry) for entry in later),
        said=said.decode(errors="replace"),
    )


def stated_manifest(entry_id: bytes, fields: Any) -> StatedManifest:
    """Return a manifest of the server's answer; the script has its fields as a list, the client as a mapping."""
    named = fields if isinstance(fields, Mapping) else dict(zip(fields[::2], fields[1::2], strict=True))
    return StatedManifest(at=_number(entry_id), data=bytes(named.get(b"manifest", b"")))


def _calls(commands: Mapping[str, Any], name: str) -> int:
    told = commands.get(f"cmdstat_{name}")
    return int(told["calls"]) if told else 0


def _counters(told: Any) -> StreamCounters | None:
    if not told:
        return None
    added, length, first, last, deleted = told
    return StreamCounters(
        added=int(added),
        length=int(length),
        first=_number(first) if length else NO_ENTRY,
        last=_number(last),
        deleted=_number(deleted),
    )


def _number(entry_id: bytes) -> EntryNumber:
    cut, _, chunk = entry_id.decode().partition("-")
    return int(cut), int(chunk)
