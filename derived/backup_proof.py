"""Proves that the backup of the lake holds exactly the events that an outbox has, before any of them is deleted.

A backup is verified against the lake. An event that the lake lost, or that somebody changed there, is wrong in the
backup, too; the outbox then has the last right copy. So both are compared by count and checksum per group of event
ids, computed by PostgreSQL and by DuckDB. Belongs here: that comparison. Does not belong here: deleting, and what
happens when they differ (`derived/retention.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb
import psycopg

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.text import counted
from derived.lake_backup import Segment, verified_rows
from derived.lake_connection import quote
from derived.lake_schema import EVENTS
from derived.objects import Folder

SHOWN_EVENTS = 3

_KNOWN = "select min(cut), coalesce(bool_or(cut = %(through)s), false) from oltp.cuts"
_DIGEST = f"""md5(concat_ws(chr(31), event_id::text, position::text, merchant_id, aggregate_type, aggregate_id,
    aggregate_version::text, event_type, schema_version::text, {{occurred_at}}::text, {{recorded_at}}::text,
    correlation_id::text, payload::text, nullif(directory_epoch, {FIRST_DIRECTORY_EPOCH})::text))"""
_IN_OUTBOX = _DIGEST.format(
    **{name: f"(extract(epoch from {name}) * 1000000)::bigint" for name in ("occurred_at", "recorded_at")}
)
_IN_BACKUP = _DIGEST.format(**{name: f"epoch_us({name})" for name in ("occurred_at", "recorded_at")})
_OUTBOX = f"""
select event_id::text, substr(md5(event_id::text), 1, 2) as bucket, {_IN_OUTBOX} as digest
from oltp.outbox
where pg_visible_in_snapshot(xid, (select snapshot from oltp.cuts where cut = %(through)s))
  and event_id::text <> all(%(accepted)s)
"""
_BACKUP = f"""
select event_id, substr(md5(event_id), 1, 2) as bucket, {_IN_BACKUP} as digest
from {{rows}} as events
where cut > $after and cut <= $through and not list_contains($accepted::varchar[], event_id)
"""
# 60 bits of each digest; the sum does not depend on the order of rows, and equal values do not cancel.
_SUMS_OF_OUTBOX = f"""
select bucket, count(*), sum(('x' || substr(digest, 1, 15))::bit(60)::bigint)::text from ({_OUTBOX}) as given group by 1
"""
_SUMS_OF_BACKUP = f"""
select bucket, count(*), sum(('0x' || substr(digest, 1, 15))::bigint)::varchar from ({_BACKUP}) group by 1
"""

Postgres = psycopg.Connection[Any]
Sums = Mapping[str, tuple[int, str]]


def rows_of_chain(connection: duckdb.DuckDBPyConnection, folder: Folder, chain: Sequence[Segment], after: int) -> str:
    """Return SQL for the events of these segments that have cuts above `after`; the files are checked first."""
    newer = [segment for segment in chain if segment.through_cut > after]
    return " union all ".join(f"select * from {verified_rows(connection, folder, one)}" for one in newer)


def rows_of_lake(pod: str) -> str:
    """Return SQL for the lake's events of a pod; the connection has the lake."""
    return f"select * from {EVENTS} where pod = {quote(pod)}"


def pruned_through(outbox: Postgres, through: int) -> int | None:
    """Return the cut up to which an outbox is pruned; None: it does not know the cut `through`, so nothing goes."""
    lowest, is_known = outbox.execute(_KNOWN, {"through": through}).fetchall()[0]
    if not is_known or through < 2:
        return None
    return 0 if lowest == 1 else int(lowest)


def differing(
    outbox: Postgres,
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    *,
    after: int,
    through: int,
    accepted: Collection[str] = (),
) -> list[str]:
    """Return the ids of the events of cuts (after, through] that `rows` lack, have twice, or have otherwise, sorted.

    `accepted`: events whose difference a person has accepted; nobody looks at them.
    """
    of_outbox = {"through": through, "accepted": list(accepted)}
    of_backup = {"after": after, "through": through, "accepted": list(accepted)}
    there: Sums = {row[0]: row[1:] for row in outbox.execute(_SUMS_OF_OUTBOX, of_outbox).fetchall()}
    here: Sums = {
        row[0]: row[1:] for row in connection.execute(_SUMS_OF_BACKUP.format(rows=f"({rows})"), of_backup).fetchall()
    }
    buckets = sorted({bucket for bucket in {*there, *here} if there.get(bucket) != here.get(bucket)})
    if not buckets:
        return []
    left = outbox.execute(
        f"select event_id, digest from ({_OUTBOX}) as given where bucket = any(%(buckets)s)",
        {**of_outbox, "buckets": buckets},
    ).fetchall()
    right = connection.execute(
        f"select event_id, digest from ({_BACKUP.format(rows=f'({rows})')}) where list_contains($buckets, bucket)",
        {**of_backup, "buckets": buckets},
    ).fetchall()
    sides = Counter(left), Counter(right)
    return sorted({event_id for event_id, _ in (sides[0] - sides[1]) + (sides[1] - sides[0])})


def told(pod: str, event_ids: Sequence[str], through: int) -> str:
    """Return the sentence that says why nothing of a pod's outbox is deleted."""
    more = f" and {len(event_ids) - SHOWN_EVENTS:,} more" if len(event_ids) > SHOWN_EVENTS else ""
    return (
        f"{pod}: nothing of the outbox was deleted, because the lake does not hold what it says up to cut {through}: "
        f"{counted(len(event_ids), 'event')} ({', '.join(event_ids[:SHOWN_EVENTS])}{more}). `tieout reconcile` finds "
        "each as a break; they are deleted after its repair, or when a person has accepted it."
    )
