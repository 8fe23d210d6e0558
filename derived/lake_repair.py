"""Repairs of the lake's events and positions, with the events of the outbox or of a verified backup.

Belongs here: changing `raw.events` and the lake's fence in other ways than by following the log. Does not belong here:
where the right events come from (`streams/reissue.py`, `derived/lake_backup.py`), whole cuts that the lake has not
reached yet (`derived/lake_gaps.py`), or what to repair (`repair/plan.py`).

Every function is one transaction of the lake that also writes the pod's fence. So it and a consumer's step conflict,
and the second to commit starts again. Therefore each function can run beside running workers. Each is idempotent, so it
can be called again after an interruption. Events are given as `streams.reissue.REISSUED_SCHEMA`. Marts still hold what
they were built from: the result names the lowest changed cut, and the marts are built again from there
(`derived.warehouse.build_warehouse`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from contracts.errors import EpochChangedError, PropagationError
from contracts.text import are, counted
from derived.lake_connection import DEFAULT_BOUNDS, Bounds, connect_lake, scrub, transaction
from derived.lake_files import conflicts_retried, is_conflict
from derived.lake_reads import lake_positions, recorded_cut
from derived.lake_schema import CUTS, EVENTS, PARKED, fence_table
from streams.projection import Position
from streams.reissue import REISSUED_SCHEMA

Connection = duckdb.DuckDBPyConnection
Row = dict[str, Any]
Answer = TypeVar("Answer")

ATTEMPTS_MAX = 20
"""Maximum number of attempts, if a consumer's commit or a compaction always comes first."""

RETRY_SECONDS = 0.1

ROWS_SHOWN_MAX = 10_000
"""Maximum number of rows in `before` and `after`; the counts are always exact."""

COLUMNS = ", ".join(f'"{name}"' for name in REISSUED_SCHEMA.names)
GIVEN, STANDING = "given_events", "standing_events"

# Copies with the same event id are one event for every reader, so keep one row of them.
KEPT = f"""
    select {COLUMNS} from {STANDING}
    qualify row_number() over (partition by event_id order by cut, chunk, "position", payload) = 1
"""
DIFFERS = " or ".join(f'standing."{name}" is distinct from given."{name}"' for name in REISSUED_SCHEMA.names)


@dataclass(frozen=True, kw_only=True)
class LakeChange:
    """The changes of one repair."""

    events: int
    """Rows inserted, replaced or removed; 0 if everything was right already."""
    lowest_cut: int | None
    """The lowest cut whose rows changed: marts are built again from it. None if nothing changed."""
    before: Sequence[Row] = ()
    """Removed or replaced rows, with all their columns (at most ROWS_SHOWN_MAX)."""
    after: Sequence[Row] = ()
    """Inserted rows, including replacements (at most ROWS_SHOWN_MAX)."""


NOTHING = LakeChange(events=0, lowest_cut=None)


@dataclass(frozen=True, kw_only=True)
class PositionChange:
    """The lake's position in a pod before and after, by partition."""

    before: Mapping[int, Position]
    after: Mapping[int, Position]


def restore_events(
    catalog_dsn: str, data_path: str, pod: str, events: pa.Table, *, bounds: Bounds = DEFAULT_BOUNDS
) -> LakeChange:
    """Insert those of `events` that the lake lacks (by event id); it does not lack an event that is parked.

    All events must be below the lake's position, because later ones come from the log. Raises PropagationError for an
    event beyond it, EpochChangedError for events of another history of the database; nothing is inserted then.
    """

    def change(connection: Connection) -> LakeChange:
        _check_epoch(connection, pod, events)
        _check_applied(connection, pod)
        missing = _table(
            connection,
            f"""select {COLUMNS} from {GIVEN}
                where event_id not in (select event_id from {EVENTS} where pod = $pod)
                  and event_id not in (select event_id from {PARKED} where pod = $pod)
                qualify row_number() over (partition by event_id order by cut, chunk, "position", payload) = 1""",
            pod,
        )
        if missing.num_rows:
            _insert(connection, missing)
        return _change(removed=None, came=missing, events=missing.num_rows)

    return change_lake(catalog_dsn, data_path, pod, events, change, bounds=bounds)


def remove_duplicates(
    catalog_dsn: str,
    data_path: str,
    pod: str,
    event_ids: Collection[str] | None = None,
    *,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> LakeChange:
    """Keep one row of every event of `event_ids` (None: of all events of the pod), and delete its other copies.

    The row with the lowest cut and position is kept. If the copies differ, `replace_events` then corrects it.
    """
    condition = "" if event_ids is None else f"and event_id in (select event_id from {GIVEN})"

    def change(connection: Connection) -> LakeChange:
        copies = _table(
            connection,
            f"""select {COLUMNS} from {EVENTS} where pod = $pod and event_id in (
                    select event_id from {EVENTS} where pod = $pod {condition} group by event_id having count(*) > 1
                )""",
            pod,
        )
        if not copies.num_rows:
            return NOTHING
        connection.register(STANDING, copies)
        kept = connection.execute(KEPT).to_arrow_reader().read_all()
        _delete(connection, pod, copies)
        _insert(connection, kept)
        return _change(removed=copies, came=kept, events=copies.num_rows - kept.num_rows)

    return change_lake(catalog_dsn, data_path, pod, _ids(event_ids or ()), change, bounds=bounds)


def replace_events(
    catalog_dsn: str, data_path: str, pod: str, events: pa.Table, *, bounds: Bounds = DEFAULT_BOUNDS
) -> LakeChange:
    """Replace the lake's rows of these events if any column differs from `events`; `before` and `after` show the rows.

    Copies of an event are reduced to one. An event that the lake lacks is not inserted (`restore_events` does that).
    Raises EpochChangedError for events of another history of the database; nothing is replaced then.
    """

    def change(connection: Connection) -> LakeChange:
        _check_epoch(connection, pod, events)
        wrong = _table(
            connection,
            f"""select standing.* from {EVENTS} as standing join {GIVEN} as given using (event_id)
                where standing.pod = $pod
                qualify bool_or({DIFFERS}) over (partition by event_id)
                     or count(*) over (partition by event_id) > 1""",
            pod,
        )
        if not wrong.num_rows:
            return NOTHING
        wrong_ids = pc.unique(wrong.column("event_id").combine_chunks())
        right = events.filter(pc.is_in(events.column("event_id"), value_set=wrong_ids))
        _delete(connection, pod, wrong)
        _insert(connection, right)
        return _change(removed=wrong, came=right, events=right.num_rows)

    return change_lake(catalog_dsn, data_path, pod, events, change, bounds=bounds)


def remove_extra_events(
    catalog_dsn: str,
    data_path: str,
    pod: str,
    event_ids: Collection[str],
    *,
    published: pa.Table,
    unpruned_after: int,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> LakeChange:
    """Remove events that the outbox has never held; events in `published` stay.

    `published`: the outbox's events of the cuts of these events (`reissue.events_of_cuts`; none for a cut that was
    never registered). `unpruned_after`: the cut up to which the outbox is pruned. Raises PropagationError for an event
    of a pruned cut, because nobody can prove that it is extra and people must decide; nothing is removed then.
    """
    genuine = pc.unique(published.column("event_id").combine_chunks())

    def change(connection: Connection) -> LakeChange:
        found = _table(
            connection,
            f"select {COLUMNS} from {EVENTS} where pod = $pod and event_id in (select event_id from {GIVEN})",
            pod,
        )
        extra = found.filter(pc.invert(pc.is_in(found.column("event_id"), value_set=genuine)))
        if not extra.num_rows:
            return NOTHING
        lowest = pc.min(extra.column("cut")).as_py()
        if lowest <= unpruned_after:
            raise PropagationError(
                f"The lake has events of pod {pod} that the outbox does not give, but the outbox is pruned through cut "
                f"{unpruned_after} and the lowest of them is of cut {lowest}: nobody can prove them wrong; a person "
                "must look."
            )
        _delete(connection, pod, extra)
        return _change(removed=extra, came=None, events=extra.num_rows)

    return change_lake(catalog_dsn, data_path, pod, _ids(event_ids), change, bounds=bounds)


def set_lake_position(
    catalog_dsn: str, data_path: str, pod: str, cut: int, *, bounds: Bounds = DEFAULT_BOUNDS
) -> PositionChange:
    """Set the lake's position in every partition of `pod` to `cut`, after the position was changed from outside.

    If it was moved forward, events were skipped. The position stays, and the events are restored from the outbox
    (`restore_events`), because the log may be trimmed there. Only a position beyond the pod's newest cut is set back,
    because the lake would wait there without end. It is set to `recorded_cut`, from where the log brings the skipped
    events, or to the newest cut if the log no longer has them.

    If it was moved back, nothing needs to be done: the lake follows the log again and recognises the events that it has
    (`derived/lake.py`). Only if the log is trimmed there, so that the lake cannot go on, is the position set forward to
    `recorded_cut`. A later cut raises PropagationError: events that never came would count as applied.
    """

    def change(connection: Connection) -> PositionChange:
        before, recorded = lake_positions(connection, pod), recorded_cut(connection, pod)
        target = Position(cut=cut, chunk=0)
        if cut > recorded and any(position < target for position in before.values()):
            raise PropagationError(
                f"The lake's position in pod {pod} cannot be set forward to cut {cut}: the lake has recorded cut "
                f"{recorded} as its last complete one. Choose that one, and let the log bring the rest."
            )
        connection.execute(
            f"""update {fence_table("lake", pod)} set cut = $cut, chunk = 0, data_at = coalesce(
                    (select max(data_at) from {CUTS} where pod = $pod and cut <= $cut), data_at)""",
            {"pod": pod, "cut": cut},
        )
        return PositionChange(before=before, after=dict.fromkeys(before, target))

    return change_lake(catalog_dsn, data_path, pod, no_events(), change, bounds=bounds)


def change_lake(
    catalog_dsn: str,
    data_path: str,
    pod: str,
    given: pa.Table,
    change: Callable[[Connection], Answer],
    *,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Answer:
    """Run `change` in one transaction that also writes the pod's fence; retry while other commits come first.

    Raises PropagationError after ATTEMPTS_MAX conflicts, or if the lake cannot be changed.
    """
    with connect_lake(catalog_dsn, data_path, bounds=bounds) as connection:
        connection.register(GIVEN, given)
        try:
            retrying = conflicts_retried(ATTEMPTS_MAX, pause_seconds=RETRY_SECONDS)
            answer: Answer = retrying(_attempt, connection, pod, change)
            return answer
        except duckdb.Error as error:
            if not (isinstance(error, duckdb.TransactionException) and is_conflict(error)):
                raise _failure(catalog_dsn, error) from None
    raise PropagationError(f"The lake could not be repaired: others changed it in each of {ATTEMPTS_MAX} attempts.")


def _attempt(connection: Connection, pod: str, change: Callable[[Connection], Answer]) -> Answer:
    with transaction(connection, "repair"):
        answer = change(connection)
        if answer != NOTHING:
            connection.execute(f"update {fence_table('lake', pod)} set chunk = chunk")
    return answer


def _failure(catalog_dsn: str, error: duckdb.Error) -> PropagationError:
    return PropagationError(f"The lake could not be repaired: {scrub(error, catalog_dsn)}")


def _check_epoch(connection: Connection, pod: str, events: pa.Table) -> None:
    """Raise EpochChangedError for events of a history of the database that the lake never followed."""
    rows = connection.execute(
        f"""select epoch from {CUTS} where pod = $pod
            union select epoch from {fence_table("lake", pod)} where epoch is not null""",
        {"pod": pod},
    ).fetchall()
    known = {row[0] for row in rows}
    if others := set(pc.unique(events.column("epoch").combine_chunks()).to_pylist()) - known:
        raise EpochChangedError(
            f"The lake follows epoch {', '.join(sorted(known)) or '(none yet)'} of pod {pod}, but the events to repair "
            f"it with are of epoch {', '.join(sorted(others))}; their cuts have other content, so nothing was changed."
        )
    if pods := set(pc.unique(events.column("pod").combine_chunks()).to_pylist()) - {pod}:
        raise PropagationError(f"Events of {', '.join(sorted(pods))} cannot repair {pod}; give each pod its own.")


def _check_applied(connection: Connection, pod: str) -> None:
    """Raise PropagationError if a given event is beyond the position of its partition."""
    rows = connection.execute(
        f"""select given.cut, given.chunk, given."partition", coalesce(fence.cut, 0), count(*) over ()
            from {GIVEN} as given
            left join {fence_table("lake", pod)} as fence on fence."partition" = given."partition"
            where not (given.cut <= coalesce(fence.cut, 0)
                       or (given.cut = fence.cut + 1 and given.chunk < fence.chunk))
            order by 1, 2, 3 limit 1"""
    ).fetchall()
    for cut, chunk, partition, reached, number in rows:
        raise PropagationError(
            f"{counted(number, 'event')} of pod {pod} {are(number)} beyond the lake's position (the first: cut {cut}, "
            f"chunk {chunk}, partition {partition}, which stands at cut {reached}): what is beyond it comes by itself; "
            "restore what is missing before it."
        )


def _table(connection: Connection, query: str, pod: str) -> pa.Table:
    return connection.execute(query, {"pod": pod}).to_arrow_reader().read_all()


def _insert(connection: Connection, events: pa.Table) -> None:
    connection.register("coming_events", events)
    connection.execute(f"insert into {EVENTS} ({COLUMNS}) select {COLUMNS} from coming_events")
    connection.unregister("coming_events")


def _delete(connection: Connection, pod: str, events: pa.Table) -> None:
    """Delete every row of these events; the range of cuts lets DuckLake skip most files."""
    cuts = pc.min_max(events.column("cut")).as_py()
    connection.register("going_events", events)
    connection.execute(
        f"""delete from {EVENTS} where pod = $pod and cut between $lowest and $highest
            and event_id in (select event_id from going_events)""",
        {"pod": pod, "lowest": cuts["min"], "highest": cuts["max"]},
    )
    connection.unregister("going_events")


def _change(*, removed: pa.Table | None, came: pa.Table | None, events: int) -> LakeChange:
    tables = [table for table in (removed, came) if table is not None and table.num_rows]
    return LakeChange(
        events=events,
        lowest_cut=min((pc.min(table.column("cut")).as_py() for table in tables), default=None),
        before=removed.slice(0, ROWS_SHOWN_MAX).to_pylist() if removed is not None else [],
        after=came.slice(0, ROWS_SHOWN_MAX).to_pylist() if came is not None else [],
    )


def no_events() -> pa.Table:
    """Return an empty table, for a change that needs no events."""
    return _ids(())


def _ids(event_ids: Collection[str]) -> pa.Table:
    return pa.table({"event_id": pa.array(sorted(set(event_ids)), pa.string())})
