"""The log on Valkey or Redis Streams.

Belongs here: keys, commands and replies of that server. Does not belong here: anything that a second adapter would also
need (`streams/log.py`).

The braces in the keys are a hash tag, so that in a Redis Cluster all streams of a pod are in one slot. The published
manifests are always under `{tieout:<pod>}:cuts`. Each manifest says which generation of the partition streams has its
entries. So renaming one key switches to a new generation, and consumers need not know.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import redis

from contracts.errors import LogDivergedError, LogGapError
from contracts.struct_types import make_known
from streams import codec
from streams.counters import LogCounters, StatedManifest
from streams.cuts import CODEC
from streams.log import EntryId, LogEntry, LogTail, Manifest, Progress, entry_place, written_by_strangers
from streams.valkey_counters import read_counters, stated_manifest
from streams.valkey_server import ValkeyServer, told_errors

PIPELINE_BYTES = 8 << 20
FETCHED_ENTRIES = 64
COPIED_MANIFESTS = 1_000
REPORT = """#!lua flags=allow-oom
return redis.call('hset', KEYS[1], ARGV[1], ARGV[2])
"""
TRIMMING = """#!lua flags=allow-oom
local below = math.max(tonumber(redis.call('hget', KEYS[1], 'below') or '0'), tonumber(ARGV[1]))
return redis.call('hset', KEYS[1], 'below', string.format('%.0f', below))
"""
"""Says from which cut on the log is whole. Trimming must work on a full server, so that this must, too."""
BEAT = """#!lua flags=allow-oom
return redis.call('xadd', KEYS[1], 'maxlen', '1', '*', 'said', ARGV[1])
"""

make_known(Manifest, Progress)


class ValkeyLog(ValkeyServer):
    """The log port on one Valkey or Redis server (or a cluster node set)."""

    # Keys

    @staticmethod
    def _root(pod: str) -> str:
        return f"{{tieout:{pod}}}"

    def manifests_key(self, pod: str, staged_generation: int | None = None) -> str:
        """Return the key of the pod's manifests, or of the manifests that a republication has staged."""
        return f"{self._root(pod)}:" + ("cuts" if staged_generation is None else f"g{staged_generation}:cuts")

    def entries_key(self, pod: str, generation: int, partition: int) -> str:
        """Return the key of one partition's stream."""
        return f"{self._root(pod)}:g{generation}:p{partition}"

    def _generation(self, pod: str) -> int:
        return int(cast(bytes | None, self._client.get(f"{self._root(pod)}:generation")) or 1)

    # Appending

    @told_errors
    def tail(self, pod: str, partition_count: int) -> LogTail:
        """Return where the streams of the current generation end."""
        generation = self._generation(pod)
        manifests = self.manifests_key(pod)
        keys = [self.entries_key(pod, generation, partition) for partition in range(partition_count)]
        return LogTail(
            generation=generation,
            manifest_cut=self._last_cut(manifests),
            manifest=self._newest_manifest(pod),
            entry_cuts={partition: self._last_cut(key) for partition, key in enumerate(keys)},
            strangers=tuple(self._strangers(manifests, *keys)),
        )

    def _newest_manifest(self, pod: str) -> Manifest | None:
        before = "+"
        while rows := cast(list[Any], self._client.xrevrange(self.manifests_key(pod), before, count=COPIED_MANIFESTS)):
            found = next((one for row in rows if (one := _own_manifest(*row))), None)
            if found is not None:
                return found
            before = f"({rows[-1][0].decode()}"
        return None

    def _strangers(self, manifests: str, *keys: str) -> Iterator[str]:
        """Yield where the newest entry of a stream is not of the shape that a relay writes."""
        pipeline = self._client.pipeline(transaction=False)
        for key in (manifests, *keys):
            pipeline.xrevrange(key, count=1)
        for key, rows in zip((manifests, *keys), pipeline.execute(), strict=True):
            for entry_id, fields in rows:
                is_own = b"events" in fields if key != manifests else _own_manifest(entry_id, fields) is not None
                if not is_own:
                    yield f"entry {entry_id.decode()} of {key}"

    def _last_cut(self, key: str) -> int:
        # The last id that was ever added: unlike the last entry, it survives trimming.
        try:
            stream = cast(Mapping[str, Any], self._client.xinfo_stream(key))
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return 0
            raise
        return _cut_of(stream["last-generated-id"])

    def _check_strangers(self, pod: str, cut: int, *keys: str) -> None:
        """Raise LogDivergedError if what refuses the next id are entries that no relay wrote."""
        if strangers := list(self._strangers(self.manifests_key(pod), *keys)):
            raise written_by_strangers(pod, strangers, cut)

    @told_errors
    def append(self, pod: str, entries: Sequence[LogEntry]) -> None:
        """Append entries in order; idempotent, an entry that is already there with the same checksum is skipped."""
        for group in _groups(entries):
            pipeline = self._client.pipeline(transaction=False)
            for entry in group:
                key = self.entries_key(pod, entry.at.generation, entry.at.partition)
                fields = {"events": entry.data, "epoch": entry.epoch, "codec": CODEC}
                pipeline.xadd(key, fields, id=f"{entry.at.cut}-{entry.at.chunk}")  # type: ignore[arg-type]
            for entry, reply in zip(group, pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(reply, redis.ResponseError) and _is_refused_id(reply):
                    self._check_same(pod, entry)
                elif isinstance(reply, Exception):
                    raise reply

    def _check_same(self, pod: str, entry: LogEntry) -> None:
        """Raise LogDivergedError unless the entry is already there.

        The server gives the same error for ids that exist, that were deleted and that were skipped, so we read the
        entry.
        """
        where = f"pod {pod}, partition {entry.at.partition}, cut {entry.at.cut}, chunk {entry.at.chunk}"
        stored = self._read(pod, [entry.at])[0]
        if stored is None:
            self._check_strangers(pod, entry.at.cut, self.entries_key(pod, entry.at.generation, entry.at.partition))
            raise LogDivergedError(
                f"The log is past {where} but does not hold it; "
                f"republish from cut {entry.at.cut} into a new generation."
            )
        events = codec.decode(stored)
        if codec.checksum(events, place=entry_place(pod, entry.epoch, entry.at)) != entry.checksum:
            raise LogDivergedError(
                f"The log holds other events at {where} than the outbox gives for it; nothing was published over them."
            )

    @told_errors
    def append_manifest(self, pod: str, manifest: Manifest, *, is_staged: bool = False) -> None:
        """Append the manifest of a cut whose entries are all appended."""
        key = self.manifests_key(pod, manifest.generation if is_staged else None)
        try:
            self._client.xadd(key, {"manifest": msgspec.json.encode(manifest)}, id=f"{manifest.cut}-0")
        except redis.ResponseError as error:
            if not _is_refused_id(error):
                raise
            stored = cast(list[Any], self._client.xrange(key, f"{manifest.cut}-0", f"{manifest.cut}-0"))
            standing = _own_manifest(*stored[0]) if stored else None
            if standing is None or not manifest.says_the_same_as(standing):
                self._check_strangers(pod, manifest.cut)
                raise LogDivergedError(
                    f"The log of pod {pod} has lost its manifest of cut {manifest.cut}, or holds another one than the "
                    "outbox gives; nothing was published over it."
                ) from None

    # Reading

    @told_errors
    def manifests(self, pod: str, after_cut: int, *, limit: int, block_milliseconds: int = 0) -> list[Manifest]:
        """Return up to `limit` manifests of cuts after `after_cut`, in order; wait for the first one if asked to."""
        key = self.manifests_key(pod)
        if block_milliseconds:
            # Ids of manifests end in -0, so the largest possible suffix means "later cuts".
            streams: dict[Any, Any] = {key: f"{after_cut}-18446744073709551615"}
            reply = cast(list[Any], self._client.xread(streams, count=limit, block=block_milliseconds))
            rows = reply[0][1] if reply else []
        else:
            rows = cast(list[Any], self._client.xrange(key, f"{after_cut + 1}-0", "+", count=limit))
        found = [one for row in rows if (one := _own_manifest(*row))]
        if rows and not found and block_milliseconds:
            # Only entries that no relay wrote, and they stay: without a pause the caller would ask all the time.
            time.sleep(block_milliseconds / 1_000)
        return found

    @told_errors
    def fetch(self, pod: str, entries: Sequence[EntryId]) -> list[bytes]:
        """Return the bytes of exactly these entries; LogGapError when one is missing."""
        found = []
        for at, data in zip(entries, self._read(pod, entries), strict=True):
            if data is None:
                raise LogGapError(
                    f"The log no longer holds partition {at.partition}, cut {at.cut}, chunk {at.chunk} of pod {pod} "
                    f"(generation {at.generation}), which its manifest names; republish it or rebuild from the lake."
                )
            found.append(data)
        return found

    def _read(self, pod: str, entries: Sequence[EntryId]) -> list[bytes | None]:
        replies: list[Any] = []
        for start in range(0, len(entries), FETCHED_ENTRIES):
            pipeline = self._client.pipeline(transaction=False)
            for at in entries[start : start + FETCHED_ENTRIES]:
                entry_id = f"{at.cut}-{at.chunk}"
                pipeline.xrange(self.entries_key(pod, at.generation, at.partition), entry_id, entry_id)
            replies += pipeline.execute()
        return [rows[0][1].get(b"events") if rows else None for rows in replies]

    # Generations

    @told_errors
    def begin_generation(self, pod: str, from_cut: int) -> int:
        """Return the number of a new, empty generation that will hold the cuts from `from_cut` on.

        Deletes what an unfinished republication left. Manifests of earlier cuts are copied unchanged: their entries
        stay in the generation that has them.
        """
        generation = self._generation(pod) + 1
        staged = self.manifests_key(pod, generation)
        self._client.delete(staged, *self._entry_keys(pod, generation))
        kept = cast(list[Any], self._client.xrange(self.manifests_key(pod), "-", f"({from_cut}-0"))
        for start in range(0, len(kept), COPIED_MANIFESTS):
            pipeline = self._client.pipeline(transaction=False)
            for entry_id, fields in kept[start : start + COPIED_MANIFESTS]:
                if _own_manifest(entry_id, fields):
                    pipeline.xadd(staged, fields, id=entry_id)
            pipeline.execute()
        return generation

    @told_errors
    def switch_generation(self, pod: str, generation: int) -> None:
        """Make the staged manifests of `generation` the pod's manifests, atomically."""
        staged, present = self.manifests_key(pod, generation), self.manifests_key(pod)
        pipeline = self._client.pipeline(transaction=True)
        if self._client.exists(staged):
            pipeline.rename(staged, present)
        else:  # a generation without any manifest
            pipeline.delete(present)
        pipeline.set(f"{self._root(pod)}:generation", generation)
        pipeline.execute()

    @told_errors
    def retract(self, pod: str, after_cut: int) -> None:
        """Make the pod's log end at `after_cut`, in a new generation; later manifests are kept aside."""
        present = self._generation(pod)
        last = after_cut
        while later := self.manifests(pod, last, limit=COPIED_MANIFESTS):
            aside = {f"{present}-{manifest.cut}": msgspec.json.encode(manifest) for manifest in later}
            self._client.hset(self._retracted_key(pod), mapping=aside)  # type: ignore[arg-type]
            last = later[-1].cut
        generation = self.begin_generation(pod, after_cut + 1)
        staged = self.manifests_key(pod, generation)
        if after_cut and not self._client.exists(staged):
            # No manifest is kept, but the stream's last id must be that of `after_cut`.
            self._client.xadd(staged, {"manifest": b""}, id=f"{after_cut}-0")
            self._client.xdel(staged, f"{after_cut}-0")
        self.switch_generation(pod, generation)

    @told_errors
    def retracted(self, pod: str) -> list[Manifest]:
        """Return the manifests that were kept aside, ordered by cut; their entries can still be fetched."""
        stored = cast(list[bytes], self._client.hvals(self._retracted_key(pod)))
        found = [msgspec.json.decode(value, type=Manifest) for value in stored]
        return sorted(found, key=lambda manifest: (manifest.cut, manifest.generation))

    @told_errors
    def forget_retracted(self, pod: str) -> None:
        """Delete the manifests that were kept aside; call it when their events are stored elsewhere."""
        self._client.delete(self._retracted_key(pod))

    def _retracted_key(self, pod: str) -> str:
        return f"{self._root(pod)}:retracted"

    def _entry_keys(self, pod: str, generation: int | None = None) -> list[bytes]:
        pattern = f"{self._root(pod)}:g{'*' if generation is None else generation}:p*"
        return sorted(self._client.scan_iter(match=pattern, count=1_000))

    # Projections and trimming

    @told_errors
    def report_progress(self, pod: str, progress: Progress) -> None:
        """Register a projection, or update its position."""
        key, value = f"{self._root(pod)}:projections", msgspec.json.encode(progress)
        try:
            self._client.hset(key, progress.projection, value)
        except redis.OutOfMemoryError:
            # A full server refuses this write like any other. But only trimming frees memory, and trimming depends on
            # the reported positions. So we write with a script that may exceed the memory limit.
            self._client.eval(REPORT, 1, key, progress.projection, value)

    @told_errors
    def forget_projection(self, pod: str, projection: str) -> None:
        """Remove a projection that no longer exists."""
        self._client.hdel(f"{self._root(pod)}:projections", projection)

    @told_errors
    def progress(self, pod: str) -> list[Progress]:
        """Return every registered projection of a pod, by name."""
        stored = cast(Mapping[bytes, bytes], self._client.hgetall(f"{self._root(pod)}:projections"))
        found = [msgspec.json.decode(value, type=Progress) for value in stored.values()]
        return sorted(found, key=lambda item: item.projection)

    @told_errors
    def trim(self, pod: str, kept_from_cut: int) -> int:
        """Remove manifests and entries of cuts below `kept_from_cut`; return the number of removed entries."""
        keys = self._entry_keys(pod)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.eval(TRIMMING, 1, self._trimmed_key(pod), kept_from_cut)
        for key in (self.manifests_key(pod).encode(), *keys):
            pipeline.xtrim(key, minid=f"{kept_from_cut}-0", approximate=False)
        return sum(pipeline.execute()[2:])

    def _trimmed_key(self, pod: str) -> str:
        return f"{self._root(pod)}:trimmed"

    # The witness

    @told_errors
    def counters(self, pod: str, streams: Collection[tuple[int, int]], after_cut: int, *, limit: int) -> LogCounters:
        """Return how the pod's streams stand at one moment, and the manifests after `after_cut`."""
        root = self._root(pod)
        singles = [self.manifests_key(pod), f"{root}:generation", self._trimmed_key(pod), self._beat_key(pod)]
        entries = {at: self.entries_key(pod, *at) for at in streams}
        return read_counters(self._client, singles, entries, after_cut, limit)

    @told_errors
    def stated(self, pod: str, from_cut: int, through_cut: int, *, limit: int) -> list[StatedManifest]:
        """Return up to `limit` manifests of these cuts in order, as they are stored."""
        found = self._client.xrange(self.manifests_key(pod), f"{from_cut}-0", str(through_cut), count=limit)
        return [stated_manifest(*entry) for entry in cast(list[Any], found)]

    @told_errors
    def beat(self, pod: str, said: str) -> None:
        """Append a heartbeat to the stream of the pod's witness, which keeps the newest one."""
        self._client.eval(BEAT, 1, self._beat_key(pod), said)

    def _beat_key(self, pod: str) -> str:
        return f"{self._root(pod)}:witness"


def _groups(entries: Sequence[LogEntry]) -> list[list[LogEntry]]:
    """Split entries into groups of at most PIPELINE_BYTES (or one larger entry)."""
    groups: list[list[LogEntry]] = []
    size = PIPELINE_BYTES
    for entry in entries:
        if size + len(entry.data) > PIPELINE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += len(entry.data)
    return groups


def _own_manifest(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Manifest | None:
    """Return the manifest in an entry; None if no relay wrote the entry, which readers pass over."""
    try:
        manifest = msgspec.json.decode(fields.get(b"manifest", b""), type=Manifest)
    except msgspec.DecodeError:
        return None
    return manifest if manifest.cut == _cut_of(entry_id) else None


def _cut_of(entry_id: bytes | str) -> int:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.split("-")[0])


def _is_refused_id(error: redis.ResponseError) -> bool:
    return "equal or smaller than the target stream top item" in str(error)
