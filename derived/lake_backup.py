"""Backup of the lake's events, verified by reading it back. Outbox rows are pruned only if a verified backup has them.

Belongs here: writing, verifying, reading and restoring `raw.events`. Once outboxes are pruned, it is the only part of
the lake that cannot be computed again (the catalog's rows and the marts follow from it). Does not belong here: deciding
when to prune.

A backup is a folder of Parquet files that any engine can read, one per pod and range of cuts, and `index.json`. The
index names only files that were read back and found equal to the lake. The backup protects against loss of the lake or
its catalog. An event that was altered in the lake before its first backup is altered there, too: comparisons find it,
and pruning compares the backup with the outbox first (`derived/backup_proof.py`). A folder belongs to one history of
each pod's database: it continues into another epoch only if that epoch was opened (`derived/backup_epochs.py`). Files
of retracted cuts stay, and stay in the index, but no longer count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path

import duckdb
import msgspec
import psycopg
import pyarrow as pa

from contracts.errors import EpochChangedError, PropagationError, StackError
from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.text import counted
from derived.lake_connection import (
    DEFAULT_BOUNDS,
    Bounds,
    connect_lake,
    described,
    open_beside,
    quote,
    scrub,
    transaction,
)
from derived.lake_epochs import record_opening, spans
from derived.lake_reads import cut_vector, lake_progress
from derived.lake_schema import CUTS, EVENTS, PARKED, fence_table
from derived.objects import Folder, flush, names_below, read_file, replace_file
from streams.projection import EpochOpening
from streams.reissue import REISSUED_SCHEMA

Connection = duckdb.DuckDBPyConnection

INDEX = "index.json"
LOCK_KEY = "tieout lake backup"
LOCK_TIMEOUT_SECONDS = 600
SEGMENT_COLUMNS = ", ".join(f'"{name}"' for name in REISSUED_SCHEMA.names)
NOT_EMPTY = (
    "The lake is not empty; a backup is restored into a new one only. If files of it are lost, `tieout restore-lake "
    "--discard` drops what is left of its events first."
)
# A sum does not cancel equal values as XOR would, and does not depend on the order of rows. concat_ws omits nulls: an
# event of the first directory epoch has the checksum that it had before the column existed.
FIGURES = f"""
    select count(*), coalesce(sum(md5_number_lower(concat_ws(chr(31), event_id, pod, epoch, cut, "partition", chunk,
        "position", merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version,
        epoch_us(occurred_at), epoch_us(recorded_at), correlation_id, payload,
        nullif(directory_epoch, {FIRST_DIRECTORY_EPOCH})))::hugeint), 0)::varchar
    from"""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One verified file: all events of a pod from `from_cut` through `through_cut`."""

    pod: str
    epoch: str
    from_cut: int
    through_cut: int
    events: int
    checksum: str
    """Sum of 64 bits of every event's MD5, as text."""
    file: str
    """Path relative to the folder."""
    registered_at: datetime | None = None
    """When `through_cut` was registered in the pod; None: the lake did not record it."""
    retracted_by: str | None = None
    """The epoch whose opening retracted these cuts; None: they count."""


def read_index(folder: Folder) -> list[Segment]:
    """Return the verified segments, oldest first, also retracted ones; empty if there is no backup yet."""
    data = read_file(folder / INDEX)
    return [] if data is None else msgspec.json.decode(data, type=list[Segment])


def verified_chains(folder: Folder) -> dict[str, list[Segment]]:
    """Return pod -> the segments that contain all its cuts from 1 on, in order, without a gap or an overlap."""
    chains: dict[str, list[Segment]] = {}
    segments = read_index(folder)
    present = names_below(folder) if segments else frozenset()
    for segment in segments:
        if segment.retracted_by is not None:
            continue
        chain = chains.get(segment.pod, [])
        if segment.from_cut == (chain[-1].through_cut if chain else 0) + 1 and segment.file in present:
            chains[segment.pod] = [*chain, segment]
    return chains


def verified_cuts(folder: Folder) -> dict[str, int]:
    """Return pod -> the highest cut up to which the backup is complete and verified."""
    return {pod: chain[-1].through_cut for pod, chain in verified_chains(folder).items()}


def back_up(catalog_dsn: str, data_path: str, folder: Folder, *, bounds: Bounds = DEFAULT_BOUNDS) -> list[Segment]:
    """Write and verify the events that the backup does not have yet; return the new segments.

    Raises PropagationError if a file does not equal the lake; it is then not in the index. Raises EpochChangedError if
    the folder holds another database's events; nothing is written then.
    """
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    with backup_lock(catalog_dsn), connect_lake(catalog_dsn, data_path, bounds=bounds) as connection:
        chains = verified_chains(folder)
        epochs = _lake_epochs(connection)
        for pod, chain in chains.items():
            epoch = _epoch_of_cut(connection, pod, chain[-1].through_cut, epochs.get(pod))
            check_backup_epoch(folder, chain[-1], epoch, "the lake")
        return list(_segments(connection, folder, chains, epochs))


def write_anew(
    catalog_dsn: str, data_path: str, folder: Folder, segments: Sequence[Segment], *, bounds: Bounds = DEFAULT_BOUNDS
) -> list[Segment]:
    """Write and verify segments again, because the lake was mended after them; return those that take their place.

    The files that they replace stay in the folder, and in no index.
    """
    with backup_lock(catalog_dsn), connect_lake(catalog_dsn, data_path, bounds=bounds) as connection:
        written = {
            one.file: _write(connection, folder, one.pod, one.epoch, one.from_cut, one.through_cut) for one in segments
        }
        write_index(folder, [written.get(one.file, one) for one in read_index(folder)])
    return [written[one.file] for one in segments]


def check_backup_epoch(folder: Folder, segment: Segment, epoch: str | None, where: str) -> None:
    """Raise EpochChangedError unless `segment` is of `epoch`, which `where` has now; None: it has no epoch yet."""
    if segment.epoch == epoch:
        return
    if epoch is None:
        raise EpochChangedError(
            f"The backup in {folder} has pod {segment.pod} through cut {segment.through_cut}, but {where} has nothing "
            "of it; load the backup with `tieout restore-lake`, or set another folder as TIEOUT_LAKE_BACKUP_PATH."
        )
    raise EpochChangedError(
        f"The backup in {folder} has pod {segment.pod} in epoch {segment.epoch}, but {where} is of epoch {epoch}; "
        "if that is the right database, `tieout open-epoch` takes the backup along; else keep that folder and set "
        "another one as TIEOUT_LAKE_BACKUP_PATH."
    )


@contextmanager
def backup_lock(catalog_dsn: str) -> Iterator[None]:
    """Hold the lock of the process that writes a backup; PropagationError if another one does not end in time."""
    # An advisory lock in the catalog's database: it holds across machines, and ends with the holder's session.
    try:
        connection = psycopg.connect(catalog_dsn, autocommit=True)
    except psycopg.OperationalError as error:
        raise StackError(
            f"The lake's catalog ({described(catalog_dsn)}) could not be reached: {scrub(error, catalog_dsn)}"
        ) from None
    with connection:
        connection.execute("select set_config('lock_timeout', %s, false)", (f"{LOCK_TIMEOUT_SECONDS}s",))
        try:
            connection.execute("select pg_advisory_lock(hashtext(%s))", (LOCK_KEY,))
        except psycopg.errors.LockNotAvailable:
            raise PropagationError(
                f"Another backup of the lake has run for more than {LOCK_TIMEOUT_SECONDS} seconds; wait for it."
            ) from None
        yield


def _lake_epochs(connection: Connection) -> dict[str, str | None]:
    return {pod: lake_progress(connection, pod).epoch for pod in cut_vector(connection)}


def _epoch_of_cut(connection: Connection, pod: str, cut: int, present: str | None) -> str | None:
    """Return the epoch of a cut in the lake, whose newest epoch is `present`; None: nothing of the pod has arrived."""
    if present is None:
        return None
    return spans(connection, pod, cut, cut, present)[-1].epoch


def _segments(
    connection: Connection, folder: Folder, chains: Mapping[str, Sequence[Segment]], epochs: Mapping[str, str | None]
) -> Iterator[Segment]:
    for pod, complete_cut in cut_vector(connection).items():
        through = min(complete_cut, _parked_from(connection, pod) - 1)
        start = chains[pod][-1].through_cut + 1 if pod in chains else 1
        epoch = epochs[pod]
        if epoch is None:
            continue
        for span in spans(connection, pod, start, through, epoch):
            segment = _write(connection, folder, pod, span.epoch, span.from_cut, span.through_cut)
            write_index(folder, [*read_index(folder), segment])
            yield segment


def _parked_from(connection: Connection, pod: str) -> int:
    """Return the lowest cut with a parked event: `raw.events` lacks that event, so a backup must end before the cut."""
    rows = connection.execute(f"select coalesce(min(cut), {2**62}) from {PARKED} where pod = ?", [pod]).fetchall()
    return int(rows[0][0])


def _write(connection: Connection, folder: Folder, pod: str, epoch: str, from_cut: int, through_cut: int) -> Segment:
    rows = f"(select * from {EVENTS} where pod = {quote(pod)} and cut between {int(from_cut)} and {int(through_cut)})"
    with transaction(connection):
        name, events, checksum = write_file(connection, folder, pod, rows, from_cut, through_cut)
    moments = f"select max(data_at) from {CUTS} where pod = ? and cut = ?"
    return Segment(
        pod=pod,
        epoch=epoch,
        from_cut=from_cut,
        through_cut=through_cut,
        events=events,
        checksum=checksum,
        file=name,
        registered_at=connection.execute(moments, [pod, through_cut]).fetchall()[0][0],
    )


def write_file(
    connection: Connection, folder: Folder, pod: str, rows: str, from_cut: int, through_cut: int
) -> tuple[str, int, str]:
    """Write the rows to a file with a new name, and read it back; return (name, events, checksum)."""
    name = _free_name(folder, pod, from_cut, through_cut)
    expected = figures(connection, rows)
    target = _unfinished(folder / name)
    connection.execute(f"copy {rows} to {quote(str(target))} (format parquet, compression zstd)")
    if isinstance(target, Path):
        flush(target)
    found = figures(connection, file_rows(target))
    if found != expected:
        raise PropagationError(
            f"The backup of {pod} cuts {from_cut} to {through_cut} does not equal the lake; try again."
        )
    _finish(target, folder / name)
    return name, *expected


def _unfinished(path: Folder) -> Folder:
    """Return the path to write to: a temporary one in a folder; in an object store the path itself.

    An object only appears complete, and counts only once the index names it.
    """
    if not isinstance(path, Path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_suffix(".unfinished")


def _finish(written: Folder, path: Folder) -> None:
    if isinstance(written, Path) and isinstance(path, Path):
        written.replace(path)
        flush(path.parent)


def _free_name(folder: Folder, pod: str, from_cut: int, through_cut: int) -> str:
    # The same cuts may have been backed up before and then retracted, so the plain name may be taken.
    taken = {segment.file for segment in read_index(folder)}
    stem = f"{pod}/cuts-{from_cut:012d}-{through_cut:012d}"
    return next(name for name in (f"{stem}{mark}.parquet" for mark in _marks()) if name not in taken)


def _marks() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(2))


def file_rows(file: Folder) -> str:
    """Return what selects the rows of a backup's file; where it lacks a later column, they have its default."""
    columns = "select null::bigint as directory_epoch where false"
    return f"""(
        select * replace (coalesce(directory_epoch, {FIRST_DIRECTORY_EPOCH}) as directory_epoch)
        from ({columns} union all by name select * from read_parquet({quote(str(file))})))"""


def figures(connection: Connection, source: str) -> tuple[int, str]:
    """Return (number of events that `source` selects, their checksum)."""
    rows = connection.execute(f"{FIGURES} {source} as events").fetchall()
    return int(rows[0][0]), str(rows[0][1])


def write_index(folder: Folder, segments: Sequence[Segment]) -> None:
    """Replace the index atomically."""
    replace_file(folder / INDEX, msgspec.json.format(msgspec.json.encode(segments), indent=2))


def restore(
    catalog_dsn: str,
    data_path: str,
    folder: Folder,
    *,
    discarding: Callable[[Connection], None] | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> list[Segment]:
    """Load a backup into an empty, migrated lake and set its positions, in one transaction; return the loaded segments.

    `discarding` first empties a damaged lake in the same transaction; then an empty backup is accepted, too. Afterwards
    the lake's consumer continues with the next cut. Raises PropagationError if there is no backup, the lake is not
    empty, or a file no longer has the events that the index names.
    """
    segments = [segment for chain in verified_chains(folder).values() for segment in chain]
    if not segments and discarding is None:
        raise PropagationError(f"There is no backup of the lake in {folder}; nothing was restored.")
    with (
        backup_lock(catalog_dsn),
        connect_lake(catalog_dsn, data_path, bounds=bounds) as connection,
        transaction(connection, "restore"),
    ):
        if discarding is not None:
            discarding(connection)
        # Count instead of reading rows: the catalog knows the count even if a file is lost.
        elif connection.execute(f"select count(*) from {EVENTS}").fetchall() != [(0,)]:
            raise PropagationError(NOT_EMPTY)
        for segment in segments:
            _load(connection, folder, segment)
        stand_after(connection, segments)
    return segments


def events_from_backup(folder: Folder, pod: str, cuts: Collection[int], *, bounds: Bounds = DEFAULT_BOUNDS) -> pa.Table:
    """Return all events of these cuts (REISSUED_SCHEMA), ordered by cut, partition, chunk and position.

    Used for cuts whose outbox rows are pruned. Raises PropagationError if the verified backup does not have a cut, or
    if a file no longer has the events that the index names.
    """
    wanted = sorted(set(cuts))
    chain = verified_chains(folder).get(pod, [])
    reached = chain[-1].through_cut if chain else 0
    if wanted and (wanted[0] < 1 or wanted[-1] > reached):
        raise PropagationError(
            f"The backup in {folder} holds the cuts 1 to {reached} of pod {pod}, but not cut "
            f"{wanted[-1] if wanted[0] >= 1 else wanted[0]}; it gives nothing for it."
        )
    tables = [REISSUED_SCHEMA.empty_table()]
    with open_beside(bounds) as connection:
        for segment in chain:
            mine = [cut for cut in wanted if segment.from_cut <= cut <= segment.through_cut]
            if mine:
                rows = connection.execute(
                    f"""select {SEGMENT_COLUMNS} from {verified_rows(connection, folder, segment)}
                        where list_contains($cuts, cut) order by cut, "partition", chunk, "position" """,
                    {"cuts": mine},
                )
                tables.append(rows.to_arrow_reader().read_all().cast(REISSUED_SCHEMA))
    return pa.concat_tables(tables)


def verified_rows(connection: Connection, folder: Folder, segment: Segment) -> str:
    """Return SQL that reads the rows of a segment's file, after checking them against the index.

    Raises PropagationError if the file does not hold what the index says.
    """
    source = file_rows(folder / segment.file)
    if figures(connection, source) != (segment.events, segment.checksum):
        raise PropagationError(
            f"{segment.file} does not hold the {counted(segment.events, 'event')} that {INDEX} names."
        )
    return source


def _load(connection: Connection, folder: Folder, segment: Segment) -> None:
    rows = verified_rows(connection, folder, segment)
    connection.execute(f"insert into {EVENTS} by name select * from {rows} as events")


def stand_after(connection: Connection, segments: Sequence[Segment]) -> None:
    """Set the lake's positions to the end of these consecutive segments, in the caller's transaction."""
    for earlier, later in pairwise(segments):
        if earlier.pod == later.pod and earlier.epoch != later.epoch:
            opening = EpochOpening(epoch=later.epoch, base_cut=earlier.through_cut, base_epoch=earlier.epoch)
            record_opening(connection, later.pod, opening)
    newest = {segment.pod: segment for segment in segments}
    for pod, segment in newest.items():
        data_at = f"coalesce($registered_at, (select max(recorded_at) from {EVENTS} where pod = {quote(pod)}))"
        standing = {"epoch": segment.epoch, "cut": segment.through_cut, "registered_at": segment.registered_at}
        connection.execute(
            f"update {fence_table('lake', pod)} set epoch = $epoch, cut = $cut, chunk = 0, data_at = {data_at}",
            standing,
        )
        connection.execute(
            f"insert into {CUTS} select {quote(pod)}, $epoch, $cut, coalesce({data_at}, now())", standing
        )
