"""Reading a pod for a run of comparisons: at a new cut, everything that its pairs compare, into scratch tables.

Belongs here: what is read in the cut's snapshot, which is closed then. Does not belong here: the order of a run
(`reconcile/comparison_run.py`), how one table is selected (`reconcile/oltp_side.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import duckdb
import psycopg

from reconcile.context import ReconcileContext
from reconcile.entities import entities_of
from reconcile.log_pairs import of_cuts
from reconcile.oltp_side import OpenCut, Query, read_queries, select_entity, snapshot_cursor
from reconcile.pair import Pair
from reconcile.residence import Moved, forget_away, moved_merchants
from reconcile.scoping import PodScope, Prepared, at_the_cut

EPOCH_OPENED = "select opened_at from oltp.epochs where completed_at is not null order by number desc limit 1"


def read_pod(
    context: ReconcileContext,
    connection: duckdb.DuckDBPyConnection,
    pod: str,
    pairs: Sequence[Pair],
    prepared: Prepared | None,
) -> tuple[tuple[int, datetime | None, Moved], PodScope | None]:
    """Read the tables that the pairs need from a pod, at a new cut, into scratch tables.

    Returns ((cut, when its epoch was opened or None, which merchants have moved), scope of the run or None).
    """
    with context.take_cut(pod) as opened:
        scope = at_the_cut(prepared, opened.connection, opened.cut, opened.epoch) if prepared else None
        queries = _queries(opened, context.pods[pod], pairs, scope)
        with snapshot_cursor(context.pods[pod], opened.exported_snapshot) as cursor:
            read_queries(connection, cursor, pod, queries)
        moved = moved_merchants(opened.connection, [dsn for name, dsn in context.pods.items() if name != pod])
        forget_away(connection, pod, queries, moved)
        row = opened.connection.execute(EPOCH_OPENED).fetchone()
        return (opened.cut, None if row is None else row[0], moved), scope


def _queries(opened: OpenCut, dsn: str, pairs: Sequence[Pair], scope: PodScope | None) -> dict[str, Query]:
    types = {kind: None for pair in pairs for kind in pair.aggregate_types}
    entities = [entity for kind in types for entity in entities_of(kind)]
    aggregates = scope.aggregates if scope else None
    queries = {entity.shape.name: select_entity(entity, aggregates) for entity in entities}
    others = {name: query for pair in pairs for name, query in pair.queries.items()}
    if others:
        with psycopg.connect(dsn, autocommit=True) as outside:
            found = outside.execute("select partition_count from oltp.cuts where cut = %s", (opened.cut,)).fetchone()
        partition_count = 0 if found is None else int(found[0])
        ranges = of_cuts(scope.cuts if scope else ())
        epoch = "'" + opened.epoch.replace("'", "''") + "'"
        for name, query in others.items():
            sql = query.format(cut=int(opened.cut), epoch=epoch, partition_count=partition_count, of_cuts=ranges)
            queries[name] = Query(sql=sql)
    return queries
