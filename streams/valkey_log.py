"""The log on Valkey or Redis Streams.

Belongs here: keys, commands and replies of that server. Does not belong here: anything that a second adapter would also
need (`streams/log.py`).

The braces in the keys are a hash tag, so that in a Redis Cluster all streams of a pod are in one slot. The published
manifests are always under `{tieout:<pod>}:cuts`. Each manifest says which generation of the partition streams has its
entries. So renaming one key switches to a new generation, and consumers need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import msgspec
import redis

from contracts.errors import InputError, LogDivergedError, LogGapError, LogUnavailableError
from contracts.struct_types import make_known
from streams import codec
from streams.cuts import CODEC
from streams.log import ANSWER_SECONDS, EntryId, LogEntry, LogMemory, LogTail, Manifest, Progress, entry_place

PIPELINE_BYTES = 8 << 20
FETCHED_ENTRIES = 64
COPIED_MANIFESTS = 1_000
CONNECT_SECONDS = 5.0
REPORT = """#!lua flags=allow-oom
return redis.call('hset', KEYS[1], ARGV[1], ARGV[2])
"""
READING = {"ping", "info", "dbsize", "type", "ttl", "exists", "get", "hget", "hgetall", "xlen", "xinfo", "xrange"}
READING |= {"xrevrange", "memory", "slowlog", "latency", "scan", "config get", "client list"}
"""Commands of the server that change nothing, by their first words."""

make_known(Manifest, Progress)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _told(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Decorate a method of the port: raise LogUnavailableError when the server is unreachable or its memory is full."""

    @wraps(call)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        try:
            return call(*arguments, **named)
        except redis.RedisError as error:
            raise unavailable(error) from None

    return told


def unavailable(error: redis.RedisError) -> LogUnavailableError:
    """Return the sentence for what the server, or the way to it, has said instead of an answer."""
    reason = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, redis.OutOfMemoryError):
        sentence = "The log takes no entries: its memory is full until it is trimmed."
    elif isinstance(error, redis.ConnectionError | redis.TimeoutError):
        sentence = f"The log does not answer: {reason}. Look with `tieout status`."
    elif "No space left on device" in reason:
        sentence = f"The log takes no entries: its disk is full ({reason}). Make room there."
    else:
        sentence = f"The log's server refuses what it is asked: {reason}. Look with `tieout status`."
    return LogUnavailableError(sentence, reason=reason)


class ValkeyLog:
    """The log port on one Valkey or Redis server (or a cluster node set). Thread safe, as redis-py's pool is."""

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=min(answer_seconds, CONNECT_SECONDS),
            socket_keepalive=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

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

    @_told
    def tail(self, pod: str, partition_count: int) -> LogTail:
        """Return where the streams of the current generation end."""
        generation = self._generation(pod)
        last = cast(list[Any], self._client.xrevrange(self.manifests_key(pod), count=1))
        return LogTail(
            generation=generation,
            manifest_cut=self._last_cut(self.manifests_key(pod)),
            manifest=_manifest(last[0][1]) if last else None,
            entry_cuts={
                partition: self._last_cut(self.entries_key(pod, generation, partition))
                for partition in range(partition_count)
            },
        )

    def _last_cut(self, key: str) -> int:
        # The last id that was ever added: unlike the last entry, it survives trimming.
        try:
            stream = cast(Mapping[str, Any], self._client.xinfo_stream(key))
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return 0
            raise
        return _cut_of(stream["last-generated-id"])

    @_told
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
            raise LogDivergedError(
                f"The log is past {where} but does not hold it; "
                f"republish from cut {entry.at.cut} into a new generation."
            )
        events = codec.decode(stored)
        if codec.checksum(events, place=entry_place(pod, entry.epoch, entry.at)) != entry.checksum:
            raise LogDivergedError(
                f"The log holds other events at {where} than the outbox gives for it; nothing was published over them."
            )

    @_told
    def append_manifest(self, pod: str, manifest: Manifest, *, is_staged: bool = False) -> None:
        """Append the manifest of a cut whose entries are all appended."""
        key = self.manifests_key(pod, manifest.generation if is_staged else None)
        try:
            self._client.xadd(key, {"manifest": msgspec.json.encode(manifest)}, id=f"{manifest.cut}-0")
        except redis.ResponseError as error:
            if not _is_refused_id(error):
                raise
            stored = cast(list[Any], self._client.xrange(key, f"{manifest.cut}-0", f"{manifest.cut}-0"))
            if not stored or not manifest.says_the_same_as(_manifest(stored[0][1])):
                raise LogDivergedError(
                    f"The log of pod {pod} has lost its manifest of cut {manifest.cut}, or holds another one than the "
                    "outbox gives; nothing was published over it."
                ) from None

    # Reading

    @_told
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
        return [_manifest(fields) for _, fields in rows]

    @_told
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
        return [rows[0][1][b"events"] if rows else None for rows in replies]

    # Generations

    @_told
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
                pipeline.xadd(staged, fields, id=entry_id)
            pipeline.execute()
        return generation

    @_told
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

    @_told
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

    @_told
    def retracted(self, pod: str) -> list[Manifest]:
        """Return the manifests that were kept aside, ordered by cut; their entries can still be fetched."""
        stored = cast(list[bytes], self._client.hvals(self._retracted_key(pod)))
        found = [msgspec.json.decode(value, type=Manifest) for value in stored]
        return sorted(found, key=lambda manifest: (manifest.cut, manifest.generation))

    @_told
    def forget_retracted(self, pod: str) -> None:
        """Delete the manifests that were kept aside; call it when their events are stored elsewhere."""
        self._client.delete(self._retracted_key(pod))

    def _retracted_key(self, pod: str) -> str:
        return f"{self._root(pod)}:retracted"

    def _entry_keys(self, pod: str, generation: int | None = None) -> list[bytes]:
        pattern = f"{self._root(pod)}:g{'*' if generation is None else generation}:p*"
        return sorted(self._client.scan_iter(match=pattern, count=1_000))

    # Projections and trimming

    @_told
    def report_progress(self, pod: str, progress: Progress) -> None:
        """Register a projection, or update its position."""
        key, value = f"{self._root(pod)}:projections", msgspec.json.encode(progress)
        try:
            self._client.hset(key, progress.projection, value)
        except redis.OutOfMemoryError:
            # A full server refuses this write like any other. But only trimming frees memory, and trimming depends on
            # the reported positions. So we write with a script that may exceed the memory limit.
            self._client.eval(REPORT, 1, key, progress.projection, value)

    @_told
    def forget_projection(self, pod: str, projection: str) -> None:
        """Remove a projection that no longer exists."""
        self._client.hdel(f"{self._root(pod)}:projections", projection)

    @_told
    def progress(self, pod: str) -> list[Progress]:
        """Return every registered projection of a pod, by name."""
        stored = cast(Mapping[bytes, bytes], self._client.hgetall(f"{self._root(pod)}:projections"))
        found = [msgspec.json.decode(value, type=Progress) for value in stored.values()]
        return sorted(found, key=lambda item: item.projection)

    @_told
    def trim(self, pod: str, kept_from_cut: int) -> int:
        """Remove manifests and entries of cuts below `kept_from_cut`; return the number of removed entries."""
        keys = self._entry_keys(pod)
        pipeline = self._client.pipeline(transaction=False)
        for key in (self.manifests_key(pod).encode(), *keys):
            pipeline.xtrim(key, minid=f"{kept_from_cut}-0", approximate=False)
        return sum(pipeline.execute()[1:])

    # The server

    @_told
    def ping(self) -> None:
        """Ask the server for any answer."""
        self._client.ping()

    @_told
    def memory(self) -> LogMemory:
        """Return how much memory the server uses."""
        said = cast(Mapping[str, Any], self._client.info("memory"))
        return LogMemory(
            used_bytes=int(said["used_memory"]),
            limit_bytes=int(said.get("maxmemory", 0)) or None,
            machine_bytes=int(said.get("total_system_memory", 0)),
        )

    def is_reading(self, words: Sequence[str]) -> bool:
        """Return whether a command is known to change nothing."""
        return not {words[0].lower(), " ".join(words[:2]).lower()}.isdisjoint(READING)

    @_told
    def ask(self, words: Sequence[str | bytes]) -> list[str]:
        """Send the server a command; return the lines of its answer."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*words)  # type: ignore[no-untyped-call]
            return list(_lines(connection.read_response()))
        except redis.ResponseError as error:
            raise InputError(f"The log's server refuses {_text(words[0])}: {error}.") from None
        finally:
            # The command may have changed what the connection is set to, e.g. its database.
            connection.disconnect()  # type: ignore[no-untyped-call]
            pool.release(connection)


def _lines(answer: Any, indent: str = "") -> Iterator[str]:
    """Yield an answer's lines; what is in a list is indented once more each time."""
    if isinstance(answer, list | tuple | set):
        for one in answer:
            yield from _lines(one, indent + ("  " if isinstance(one, list | tuple | set) else ""))
    elif isinstance(answer, dict):
        for name, one in answer.items():
            yield from (f"{indent}{_text(name)}: {line}" for line in _lines(one))
    else:
        yield from (f"{indent}{line}" for line in _text(answer).splitlines() or [""])


def _text(value: object) -> str:
    """Return a value of an answer as text; bytes that are none, e.g. an entry's events, as escapes."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return "(nothing)" if value is None else str(value)


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


def _manifest(fields: Mapping[bytes, bytes]) -> Manifest:
    return msgspec.json.decode(fields[b"manifest"], type=Manifest)


def _cut_of(entry_id: bytes | str) -> int:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.split("-")[0])


def _is_refused_id(error: redis.ResponseError) -> bool:
    return "equal or smaller than the target stream top item" in str(error)
