"""outbox <-> log <-> lake: compares every event, entry by entry, with counts and checksums per partition and cut.

The outbox is also compared with the log alone. Otherwise a lake that waits for a lost entry would prevent the
comparison that finds the loss. This module computes the cut of an outbox row from the stored snapshots, without
PostgreSQL's visibility function, and computes checksums with a second implementation. Belongs here: what passed through
the log. Does not belong here: reading entries (`reconcile/log_entries.py`), what the events mean
(`reconcile/lake_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from contracts.errors import ComparisonError, LateError
from contracts.ownership import copy_named
from reconcile.compare import Outcome, compare
from reconcile.context import LoggedEntry, wait_for
from reconcile.lake_side import RAW_EVENTS
from reconcile.log_entries import ENTRIES_MAX, EVENTS_MAX, MOMENTS, NUMBERS, ReadBack
from reconcile.oltp_side import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, VARCHAR, Column, Shape, moment, names_aggregate, number, text

TEXTS = (
    "epoch",
    "merchant_id",
    "aggregate_type",
    "aggregate_id",
    "event_type",
    "causation_id",
    "correlation_id",
    "traceparent",
    "payload_md5",
)
EVENT_COLUMNS = (
    *number(*NUMBERS),
    *text(*TEXTS),
    *moment(*MOMENTS),
)
OUTBOX_SHAPE = Shape(name="outbox_events", key=("event_id",), columns=EVENT_COLUMNS, aggregate=names_aggregate)
LOG_SHAPE = Shape(name="log_events", key=("event_id",), columns=EVENT_COLUMNS, aggregate=names_aggregate)
COUNT_SHAPE = Shape(
    name="log_counts",
    key=("cut", "partition"),
    columns=(Column(name="events", type=BIGINT),),
    merchant=None,
)
MANIFEST_SHAPE = Shape(
    name="manifest_counts",
    key=("cut", "partition", "chunk"),
    columns=(Column(name="events", type=BIGINT),),
    merchant=None,
)
ENTRY_SHAPE = Shape(
    name="log_entries",
    key=("cut", "partition", "chunk"),
    columns=(Column(name="events", type=BIGINT), Column(name="checksum", type=VARCHAR)),
    merchant=None,
)

OUTBOX = """
    select xid::text::bigint as xid, event_id::text, position::bigint, merchant_id, aggregate_type, aggregate_id,
           aggregate_version::bigint, event_type, schema_version::bigint, directory_epoch::bigint, occurred_at,
           recorded_at, causation_id::text, correlation_id::text, traceparent, md5(payload::text) as payload_md5
    from oltp.outbox where {of_cuts}
"""
# Rows that may belong to the cuts of a range. These are some rows too many; PLACED computes their exact cuts. When
# `through` is not visible in the snapshot, it is the run's own cut; when `after` is not, it is pruned and below all
# rows.
OF_CUTS = """(
    (xid >= coalesce((select pg_snapshot_xmax(snapshot) from oltp.cuts where cut = {after}), '0')
     or xid = any(array(select pg_snapshot_xip(snapshot) from oltp.cuts where cut = {after})))
    and xid < coalesce(
        (select pg_snapshot_xmax(snapshot) from oltp.cuts where cut = {through}), '9223372036854775807'
    )
)"""
# The run's own cut was registered outside of its snapshot, so the snapshot does not show it. We add it: its snapshot is
# the present one.
CUTS = """
    select cut, epoch, partition_count::bigint, pg_snapshot_xmax(snapshot)::text::bigint as xmax,
           array_to_string(array(select pg_snapshot_xip(snapshot)::text), ',') as in_progress
    from oltp.cuts
    union all
    select {cut}, {epoch}, {partition_count}, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           array_to_string(array(select pg_snapshot_xip(pg_current_snapshot())::text), ',')
"""

# A transaction is in the first cut whose snapshot has it below xmax and not in progress. Once a snapshot sees a
# transaction, no later snapshot lists it as in progress. So a listed transaction is in the cut after the last one that
# lists it.
PLACED = """
    create or replace table {target} as
    with listed as (
        select cut, unnest(string_split(nullif(in_progress, ''), ','))::BIGINT as xid from {cuts}
    ),
    following as (select cut, lead(cut) over (order by cut) as next_cut from {cuts}),
    held as (select l.xid, max(f.next_cut) as cut from listed as l join following as f on f.cut = l.cut group by l.xid),
    dated as (
        select e.*, greatest(coalesce(h.cut, 0), c.cut) as cut
        from (select *, xid + 1 as xmax_min from {outbox}) as e
        asof join (select xmax, min(cut) as cut from {cuts} group by xmax) as c on c.xmax >= e.xmax_min
        left join held as h on h.xid = e.xid
    )
    select d.* exclude (xid, xmax_min), c.epoch,
           (('0x' || substr(md5(d.merchant_id || '/' || d.aggregate_type || '/' || d.aggregate_id), 1, 8))::UBIGINT
            % c.partition_count)::BIGINT as partition
    from dated as d join {cuts} as c on c.cut = d.cut
    where d.cut > {after} and d.cut <= {through}
"""

LAKE_EVENTS = f"""
    create or replace table {{target}} as
    select event_id, {", ".join(f'"{name}"::BIGINT as "{name}"' for name in NUMBERS)},
           {", ".join(name for name in TEXTS if name != "payload_md5")}, {", ".join(MOMENTS)},
           md5(payload) as payload_md5, chunk::BIGINT as chunk
    from {RAW_EVENTS} where pod = $pod and ((cut > $after and cut <= $until) {{of_older}})
"""
PLACES_OF = f"""
    select event_id, cut from {RAW_EVENTS} where pod = $pod and event_id in (select unnest($event_ids::varchar[]))
    union
    select event_id, cut from {{placed}} where event_id in (select unnest($event_ids::varchar[]))
"""
UNEVEN = """
    select distinct cut from (
        (from {stated} except all from {found}) union all (from {found} except all from {stated})
    )
"""


def of_cuts(ranges: Sequence[tuple[int, int]]) -> str:
    """Return the condition that an outbox row may be in the cuts of these ranges (after, through]; none: all cuts."""
    conditions = [OF_CUTS.format(after=int(after), through=int(through)) for after, through in ranges]
    return " or ".join(conditions) or "true"


def _compare_log(run: PodRun) -> Findings:
    """Wait until the log has the cut, then compare the outbox with the log."""
    await_log(run)
    outcomes = []
    doubted = {int(key[0] or 0) for key in run.context.unended(OUTBOX_PAIR.name, run.pod, ENTRY_SHAPE.name)}
    with _entries(run) as entries:
        lowest = min((entry.cut for entry in entries), default=run.cut + 1)
        for after, through in _ranges(run):
            chosen = [entry for entry in entries if after < entry.cut <= through]
            outcomes.append(_outbox_with_manifests(run, chosen, max(after, lowest - 1), through))
            stated, found = ReadBack(run.pod, chosen, doubted).checked()
            load(run.connection, "entries_stated", stated.to_reader())
            load(run.connection, "entries_found", found.to_reader())
            sides = table("entries_stated"), table("entries_found")
            outcomes.append(compare(run.connection, ENTRY_SHAPE, *sides, run.context.limits))
    return Findings(outcomes=outcomes)


def await_log(run: PodRun) -> None:
    """Wait until the log has the run's cut; LateError when that takes longer than the log's largest allowed lag."""
    log_cut = run.context.log_cut
    if log_cut is None:
        raise ComparisonError("How far the log is cannot be found out: this run was given no way to.")
    reached = -1

    def has_arrived() -> bool:
        nonlocal reached
        reached = log_cut(run.pod)
        return reached >= run.cut

    if not wait_for(run.context, has_arrived, float(copy_named("log").late_seconds_max)):
        raise LateError(f"The log has cut {reached} of {run.pod}, not yet cut {run.cut}.")


@contextmanager
def _entries(run: PodRun) -> Iterator[list[LoggedEntry]]:
    if run.context.read_log is None:
        raise ComparisonError("The log cannot be looked at: this run was given no reader of it.")
    with run.context.read_log(run.pod, run.cut) as logged:
        yield list(logged)


def _ranges(run: PodRun) -> Sequence[tuple[int, int]]:
    return run.cut_ranges or ((0, run.cut),)


def _compare_lake(run: PodRun) -> Findings:
    """Compare outbox and log with the lake."""
    outcomes = [_outbox_with_lake(run, *cuts) for cuts in _ranges(run)]
    with _entries(run) as entries:
        # The log was trimmed below its first kept entry.
        lowest = min((entry.cut for entry in entries), default=run.cut + 1)
        for after, through in _ranges(run):
            chosen = [entry for entry in entries if after < entry.cut <= through]
            outcomes.append(_manifests_with_lake(run, chosen, max(after, lowest - 1), through))
            outcomes.append(_log_with_lake(run, chosen, through))
    return Findings(outcomes=outcomes)


def _placed(run: PodRun, after: int, through: int) -> tuple[str, int]:
    """Write the outbox's events of cuts (after, through]; return the table, and the cut after which it is complete."""
    connection, target = run.connection, table("outbox_events")
    cuts, outbox = (table(left_name(run.pod, name)) for name in ("cuts", "outbox"))
    lowest = connection.execute(f"select min(cut) from {cuts}").fetchall()[0][0]
    # A pruned outbox begins after the lowest cut that is left; one that was never pruned begins with cut 1.
    after = max(after, 0 if lowest == 1 else lowest)
    connection.execute(PLACED.format(target=target, cuts=cuts, outbox=outbox, after=int(after), through=int(through)))
    return target, after


def _outbox_with_manifests(run: PodRun, entries: list[LoggedEntry], after: int, through: int) -> Outcome:
    """Compare the numbers of events per cut and partition of outbox and manifests."""
    connection, left, right = run.connection, table("outbox_counts"), table("stated_counts")
    placed, after = _placed(run, after, through)
    counts = """create or replace table {} as
        select "cut"::VARCHAR as "cut", "partition"::VARCHAR as "partition", {}::BIGINT as events
        from {} group by 1, 2"""
    connection.execute(counts.format(left, "count(*)", placed))
    _load_manifests(run, [entry for entry in entries if entry.cut > after])
    connection.execute(counts.format(right, "sum(events)", table("manifest_counts")))
    return compare(connection, COUNT_SHAPE, left, right, run.context.limits)


def _outbox_with_lake(run: PodRun, after: int, through: int) -> Outcome:
    left, after = _placed(run, after, through)
    right = table("lake_events")
    bound = {"pod": run.pod, "after": after, "until": through}
    run.connection.execute(LAKE_EVENTS.format(target=right, of_older=""), bound)
    return compare(run.connection, OUTBOX_SHAPE, left, right, run.context.limits)


def _load_manifests(run: PodRun, entries: list[LoggedEntry]) -> None:
    """Load the entries' numbers of events from the manifests into the scratch table `manifest_counts`."""
    stated = pa.table(
        {
            "cut": pa.array([str(entry.cut) for entry in entries], pa.string()),
            "partition": pa.array([str(entry.partition) for entry in entries], pa.string()),
            "chunk": pa.array([str(entry.chunk) for entry in entries], pa.string()),
            "events": pa.array([entry.stated_events for entry in entries], pa.int64()),
        }
    )
    load(run.connection, "manifest_counts", stated.to_reader())


def _manifests_with_lake(run: PodRun, entries: list[LoggedEntry], after: int, through: int) -> Outcome:
    _load_manifests(run, entries)
    run.connection.execute(
        f"""create or replace table {table("lake_counts")} as
            select cut::VARCHAR as cut, partition::VARCHAR as partition, chunk::VARCHAR as chunk,
                   count(*)::BIGINT as events
            from {RAW_EVENTS} where pod = $pod and cut > $after and cut <= $until group by 1, 2, 3""",
        {"pod": run.pod, "after": after, "until": through},
    )
    return compare(run.connection, MANIFEST_SHAPE, table("manifest_counts"), table("lake_counts"), run.context.limits)


def _doubted(run: PodRun) -> set[int]:
    """Return the cuts of the events that differ between log and lake by the ledger.

    Outbox and lake know the cut of an event. Of one that neither has, it is one in which the lake has more or fewer
    events than the manifests say.
    """
    ids = {key[0] for key in run.context.unended(LOG_PAIR.name, run.pod, LOG_SHAPE.name)}
    if not ids:
        return set()
    placed = run.connection.execute(
        PLACES_OF.format(placed=table("outbox_events")), {"pod": run.pod, "event_ids": list(ids)}
    ).fetchall()
    cuts = {int(cut) for _, cut in placed}
    if ids - {event_id for event_id, _ in placed}:
        uneven = UNEVEN.format(stated=table("manifest_counts"), found=table("lake_counts"))
        cuts |= {int(cut) for (cut,) in run.connection.execute(uneven).fetchall()}
    return cuts


def _log_with_lake(run: PodRun, entries: list[LoggedEntry], through: int) -> Outcome:
    """Compare the events of the newest of these entries, and of those in doubt, with the lake."""
    connection, read_back = run.connection, ReadBack(run.pod, entries, _doubted(run))
    load(connection, "log_rows", read_back.rows())
    numbers = ", ".join(f'"{name}"::BIGINT as "{name}"' for name in NUMBERS)
    connection.execute(
        f"create or replace view {table('log_events')} as "
        f"select event_id, {numbers}, {', '.join(TEXTS)}, {', '.join(MOMENTS)} from {table('log_rows')} "
        f"where cut > {int(read_back.trimmed_cut)}"
    )
    lowest, older, lake = read_back.lowest_cut or through + 1, read_back.older_cuts, table("lake_events")
    bound = {"pod": run.pod, "after": lowest - 1, "until": through}
    connection.execute(
        LAKE_EVENTS.format(target=lake, of_older="or list_contains($older, cut)"), {**bound, "older": older}
    )
    return compare(connection, LOG_SHAPE, table("log_events"), lake, run.context.limits)


OUTBOX_PAIR = Pair(
    name="outbox_log",
    left="OLTP: outbox (what is not pruned)",
    right="log: manifests and entries (what is not trimmed), up to the cut",
    description=(
        "How many events every cut has in every partition, against the manifests; the newest entries (up to "
        f"{ENTRIES_MAX:,}, or {EVENTS_MAX:,} events) read back: count and checksum against their manifest. Needs no "
        "copy, so what a copy waits for in vain is found. Older ones are read back by incremental runs, and while they "
        "have a break."
    ),
    cannot_catch=(
        "Manifests lost below all that are kept, which look like trimmed ones. An entry forged together with its "
        "manifest: `log_manifests` compares its events with the lake's."
    ),
    copy="log",
    stage=Stage.OLTP,
    shapes=(COUNT_SHAPE, ENTRY_SHAPE),
    compare=_compare_log,
    queries={"outbox": OUTBOX, "cuts": CUTS},
    sweep=Sweep.CUTS,
)
LOG_PAIR = Pair(
    name="log_manifests",
    left="OLTP: outbox (what is not pruned); log: manifests and entries (what is not trimmed)",
    right="lake: raw.events up to the cut",
    description=(
        "Every outbox row against the lake, event by event, with its cut and partition; every kept manifest against "
        "the lake's counts per cut, partition and chunk; the events of the newest entries (as many as in "
        "`outbox_log`), and of older ones while they have a break, against the lake."
    ),
    cannot_catch=(
        "Events that are pruned from the outbox and trimmed from the log: then only the lake has them (the OLTP pairs "
        "still count them). Damage inside older entries of the log, until a consumer reads and verifies them."
    ),
    copy="lake",
    stage=Stage.LAKE,
    shapes=(OUTBOX_SHAPE, MANIFEST_SHAPE, LOG_SHAPE),
    compare=_compare_lake,
    queries={"outbox": OUTBOX, "cuts": CUTS},
    sweep=Sweep.CUTS,
)
