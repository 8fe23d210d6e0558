"""Aggregates that a view has from another pod by now, because their merchant moved: their rows are that pod's.

Belongs here: telling them from the lake's events, as of the view's positions in every pod. Does not belong here: which
merchants have moved, and OLTP's rows (`reconcile/residence.py`), folding events to states (`reconcile/lake_side.py`),
comparing (`reconcile/read_model_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from reconcile.lake_side import RAW_EVENTS, PartitionPosition
from reconcile.scratch import table

ELSEWHERE = table("elsewhere")
"""The scratch table of (aggregate_type, aggregate_id) that `write_elsewhere` leaves."""
REACHED = table("reached_everywhere")

MOVED = f"from {RAW_EVENTS} where directory_epoch > {FIRST_DIRECTORY_EPOCH}"
"""Files tell by themselves, without being read, that all their events are of the first epoch."""

# Of an aggregate's events the newest is that of the latest residence, and of that one the highest version.
SUPPLANTED = f"""
    create or replace table {ELSEWHERE} as
    with heads as (
        select e.pod, e.aggregate_type, e.aggregate_id, max((e.directory_epoch, e.aggregate_version)) as head
        from {RAW_EVENTS} as e
        join {REACHED} as r on r.pod = e.pod and r.partition = e.partition
            and (e.cut <= r.cut or (e.cut = r.cut + 1 and e.chunk < r.chunk))
        where e.merchant_id in (select merchant_id {MOVED})
        group by all
    )
    select distinct mine.aggregate_type, mine.aggregate_id
    from heads as mine join heads as other using (aggregate_type, aggregate_id)
    where mine.pod = $pod and other.pod <> $pod and other.head > mine.head
"""


def has_moved(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the lake has an event of any merchant that moved."""
    return bool(connection.execute(f"select exists ({MOVED})").fetchall()[0][0])


def write_elsewhere(
    connection: duckdb.DuckDBPyConnection, pod: str, positions: Mapping[str, Sequence[PartitionPosition]]
) -> None:
    """Write which aggregates of `pod` have a newer event of another pod, as of a view's positions by pod."""
    connection.execute(f"create or replace table {REACHED} (pod varchar, partition integer, cut bigint, chunk integer)")
    for name, reached in positions.items():
        for position in reached:
            connection.execute(
                f"insert into {REACHED} values ($1, $2, $3, $4)",
                [name, position.partition, position.cut, position.chunk],
            )
    connection.execute(SUPPLANTED, {"pod": pod})
