"""Which aggregates a stranger's snapshot of the lake changed: DuckLake names the rows of a snapshot, before and after.

So a write to one row of a large table asks to compare one aggregate, and not the table. The lake also says in which
cuts a row of the outbox may be that was changed: in those the log is compared. Belongs here: asking the lake for these
rows and cuts. Does not belong here: seeing the snapshot (`witness/lake.py`), comparing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from contracts.sightings import KeptSighting, SightingKind
from reconcile.lake_side import RAW_EVENTS
from reconcile.pairs import PAIRS

ROWS_MAX = 1_000
"""A snapshot that changed more rows than this asks to compare the whole table."""
EVENTS = "raw.events"
EVENT_ID = "event_id"
ID_COLUMNS: Mapping[str, str] = {table: column for pair in PAIRS for table, column in pair.stored_tables.items()}
"""Stored table of the warehouse -> the column that says whose a row is."""
PLACES = frozenset({EVENTS, *ID_COLUMNS})
"""The tables whose rows say whose they are."""

OUTBOX = "oltp.outbox"
"""The place of a sighting of an outbox row. It names the aggregate; the pairs of the log look at cuts."""
CUTS_OF = f"""
select distinct cut from {RAW_EVENTS} where pod = $pod and aggregate_id = $aggregate_id order by cut limit {ROWS_MAX}
"""

SNAPSHOT = re.compile(r"snapshot (\d+) ")
CHANGED = """
select distinct {columns}
from ducklake_table_changes('lake', $schema, $table, $snapshot::bigint, $snapshot::bigint)
limit {limit}
"""
OF_EVENTS = f"""
select event_id, aggregate_id from {RAW_EVENTS}
where pod = $pod and event_id in (select unnest($event_ids::varchar[]))
"""


@dataclass(frozen=True, kw_only=True)
class ChangedRow:
    """Whose a changed row is. Of an event also its type, and the cut that it says."""

    pod: str
    aggregate_id: str
    aggregate_type: str | None = None
    cut: int | None = None


def is_narrowable(sighting: KeptSighting) -> bool:
    """Return whether the lake may say which rows were written, or in which cuts they are."""
    return is_of_outbox(sighting) or (
        sighting.kind is SightingKind.UNANNOUNCED
        and sighting.place in PLACES
        and SNAPSHOT.match(sighting.transaction) is not None
    )


def is_of_outbox(sighting: KeptSighting) -> bool:
    """Return whether it is of an outbox row whose cut is not known yet."""
    return sighting.place == OUTBOX and sighting.aggregate_id is not None and sighting.cuts is None


def narrowed(
    lake: duckdb.DuckDBPyConnection, sightings: Sequence[KeptSighting], pods: Collection[str]
) -> list[KeptSighting]:
    """Return the sightings, each of a snapshot once for every aggregate that it changed, as far as the lake says.

    One that the lake does not tell of, e.g. because the snapshot has expired or the table was altered, stays as it is.
    """
    known: dict[tuple[str, str], list[ChangedRow]] = {}
    found = []
    for one in sightings:
        if is_of_outbox(one):
            found += _in_its_cuts(lake, one)
            continue
        if not is_narrowable(one):
            found.append(one)
            continue
        asked = (one.place, one.transaction)
        if asked not in known:
            known[asked] = changed_rows(lake, one.place, one.transaction)
        rows = known[asked]
        if rows and all(row.pod in pods for row in rows):
            found += [_of_row(one, row) for row in rows]
        else:
            found.append(one)
    return found


def _in_its_cuts(lake: duckdb.DuckDBPyConnection, sighting: KeptSighting) -> list[KeptSighting]:
    """Return the sighting once for each cut with an event of its aggregate; as it is when the lake knows of none."""
    rows = lake.execute(CUTS_OF, {"pod": sighting.pod, "aggregate_id": sighting.aggregate_id}).fetchall()
    return [replace(sighting, cuts=(int(cut) - 1, int(cut))) for (cut,) in rows] or [sighting]


def _of_row(sighting: KeptSighting, row: ChangedRow) -> KeptSighting:
    cuts = sighting.cuts if row.cut is None else (row.cut - 1, row.cut)
    return replace(sighting, pod=row.pod, aggregate_id=row.aggregate_id, aggregate_type=row.aggregate_type, cuts=cuts)


def changed_rows(lake: duckdb.DuckDBPyConnection, place: str, transaction: str) -> list[ChangedRow]:
    """Return whose rows of a table a snapshot changed, before and after; empty when that is not told."""
    snapshot = SNAPSHOT.match(transaction)
    if snapshot is None:
        return []
    try:
        return _changed_rows(lake, place, int(snapshot[1]))
    except duckdb.Error:  # the snapshot has expired, a file of it is gone, or the table was dropped
        return []


def _changed_rows(lake: duckdb.DuckDBPyConnection, place: str, snapshot: int) -> list[ChangedRow]:
    schema, _, table = place.partition(".")
    column = ID_COLUMNS.get(place, "aggregate_id")
    columns = f'pod, "{column}"' + (", aggregate_type, cut" if place == EVENTS else ", null, null")
    query = CHANGED.format(columns=columns, limit=ROWS_MAX + 1)
    rows = lake.execute(query, {"schema": schema, "table": table, "snapshot": snapshot}).fetchall()
    if len(rows) > ROWS_MAX or any(pod is None or one is None for pod, one, *_ in rows):
        return []
    if column == EVENT_ID:
        return _of_events(lake, rows)
    return [
        ChangedRow(pod=pod, aggregate_id=str(one), aggregate_type=kind, cut=None if cut is None else int(cut))
        for pod, one, kind, cut in rows
    ]


def _of_events(lake: duckdb.DuckDBPyConnection, rows: Sequence[tuple[str, str, None, None]]) -> list[ChangedRow]:
    """Return whose the events are that rows name; empty when the lake does not have one of them."""
    found = []
    for pod in sorted({row[0] for row in rows}):
        event_ids = sorted({str(row[1]) for row in rows if row[0] == pod})
        ids = lake.execute(OF_EVENTS, {"pod": pod, "event_ids": event_ids}).fetchall()
        if {event_id for event_id, _ in ids} != set(event_ids):
            return []
        found += [ChangedRow(pod=pod, aggregate_id=aggregate_id) for aggregate_id in sorted({one for _, one in ids})]
    return found
