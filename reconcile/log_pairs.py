"""outbox <-> log <-> lake: every event, entry by entry, with counts and checksums per partition and cut.

To which cut an outbox row belongs is found here from the snapshots alone, without PostgreSQL's own visibility function;
checksums are computed a second time. Belongs here: what passed through the log. Does not belong here: what the events
mean (`reconcile/lake_pairs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from contracts.errors import ComparisonError
from reconcile.compare import Outcome, compare
from reconcile.context import LoggedEntry
from reconcile.lake import RAW_EVENTS
from reconcile.log_checksum import STORED_COLUMNS, entry_checksum
from reconcile.oltp import left_name
from reconcile.pair import Findings, Pair, PodRun, Stage, Sweep
from reconcile.scratch import load, table
from reconcile.shapes import BIGINT, TIMESTAMP, VARCHAR, Column, Shape, names_aggregate

ENTRIES_MAX = 1_000
EVENTS_MAX = 100_000
"""Of how many of the newest entries, and events in them, the content is read back from the log in each run."""

MOMENTS = ("occurred_at", "recorded_at")
NUMBERS = ("cut", "partition", "position", "aggregate_version", "schema_version")
TEXTS = (
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
    *(Column(name=name, type=BIGINT) for name in NUMBERS),
    *(Column(name=name, type=VARCHAR) for name in TEXTS),
    *(Column(name=name, type=TIMESTAMP) for name in MOMENTS),
)
OUTBOX_SHAPE = Shape(name="outbox_events", key=("event_id",), columns=EVENT_COLUMNS, aggregate=names_aggregate)
LOG_SHAPE = Shape(name="log_events", key=("event_id",), columns=EVENT_COLUMNS, aggregate=names_aggregate)
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
           aggregate_version::bigint, event_type, schema_version::bigint, occurred_at, recorded_at, causation_id::text,
           correlation_id::text, traceparent, md5(payload::text) as payload_md5
    from oltp.outbox where {of_cuts}
"""
# What may be of the cuts of a range: a few rows too many, of which the cuts themselves say where they are. A cut that
# the snapshot does not show is that of the run, one that is pruned is below all that is left.
OF_CUTS = """(
    (xid >= coalesce((select pg_snapshot_xmax(snapshot) from oltp.cuts where cut = {after}), '0')
     or xid = any(array(select pg_snapshot_xip(snapshot) from oltp.cuts where cut = {after})))
    and xid < coalesce(
        (select pg_snapshot_xmax(snapshot) from oltp.cuts where cut = {through}), '9223372036854775807'
    )
)"""
# The cut of this run was registered from outside its snapshot, so the snapshot does not show it: it is the snapshot.
CUTS = """
    select cut, partition_count::bigint, pg_snapshot_xmax(snapshot)::text::bigint as xmax,
           array_to_string(array(select pg_snapshot_xip(snapshot)::text), ',') as in_progress
    from oltp.cuts
    union all
    select {cut}, {partition_count}, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           array_to_string(array(select pg_snapshot_xip(pg_current_snapshot())::text), ',')
"""

# A transaction is in the first cut whose snapshot has it below xmax and not in progress. In-progress transactions of a
# snapshot are those of the one before or younger, so the cut after the last one that lists it is the one.
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
    select d.* exclude (xid, xmax_min),
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
    from {RAW_EVENTS} where pod = $pod and cut > $after and cut <= $until
"""


def of_cuts(ranges: Sequence[tuple[int, int]]) -> str:
    """Return the condition that an outbox row may be of the cuts of these ranges (after, through]; empty: of any."""
    conditions = [OF_CUTS.format(after=int(after), through=int(through)) for after, through in ranges]
    return " or ".join(conditions) or "true"


def _compare(run: PodRun) -> Findings:
    ranges = run.cut_ranges or ((0, run.cut),)
    outcomes = [_outbox_with_lake(run, *cuts) for cuts in ranges]
    if run.context.read_log is None:
        raise ComparisonError("The log cannot be looked at: this run was given no reader of it.")
    with run.context.read_log(run.pod, run.cut) as logged:
        entries = list(logged)
        for after, through in ranges:
            chosen = [entry for entry in entries if after < entry.cut <= through]
            # Below the first entry that is kept the log was trimmed.
            lowest = min((entry.cut for entry in entries), default=run.cut + 1)
            outcomes.append(_manifests_with_lake(run, chosen, max(after, lowest - 1), through))
            outcomes += _log_with_lake(run, chosen, through)
    return Findings(outcomes=outcomes)


def _outbox_with_lake(run: PodRun, after: int, through: int) -> Outcome:
    connection = run.connection
    cuts, outbox = (table(left_name(run.pod, name)) for name in ("cuts", "outbox"))
    lowest = connection.execute(f"select min(cut) from {cuts}").fetchall()[0][0]
    # What pruning left begins after the lowest cut; an outbox that was never pruned begins with cut 1.
    after = max(after, 0 if lowest == 1 else lowest)
    left, right = table("outbox_events"), table("lake_events")
    placed = PLACED.format(target=left, cuts=cuts, outbox=outbox, after=int(after), through=int(through))
    connection.execute(placed)
    bound = {"pod": run.pod, "after": after, "until": through}
    connection.execute(LAKE_EVENTS.format(target=right), bound)
    return compare(connection, OUTBOX_SHAPE, left, right, run.context.limits)


def _manifests_with_lake(run: PodRun, entries: list[LoggedEntry], after: int, through: int) -> Outcome:
    stated = pa.table(
        {
            "cut": pa.array([str(entry.cut) for entry in entries], pa.string()),
            "partition": pa.array([str(entry.partition) for entry in entries], pa.string()),
            "chunk": pa.array([str(entry.chunk) for entry in entries], pa.string()),
            "events": pa.array([entry.stated_events for entry in entries], pa.int64()),
        }
    )
    load(run.connection, "manifest_counts", stated.to_reader())
    run.connection.execute(
        f"""create or replace table {table("lake_counts")} as
            select cut::VARCHAR as cut, partition::VARCHAR as partition, chunk::VARCHAR as chunk,
                   count(*)::BIGINT as events
            from {RAW_EVENTS} where pod = $pod and cut > $after and cut <= $until group by 1, 2, 3""",
        {"pod": run.pod, "after": after, "until": through},
    )
    return compare(run.connection, MANIFEST_SHAPE, table("manifest_counts"), table("lake_counts"), run.context.limits)


def newest(entries: list[LoggedEntry]) -> list[LoggedEntry]:
    """Return the newest entries, as many as are read back in one run; all of a cut or none, but at least one cut."""
    by_cut: dict[int, list[LoggedEntry]] = {}
    for entry in entries:
        by_cut.setdefault(entry.cut, []).append(entry)
    chosen: list[LoggedEntry] = []
    events = 0
    for _, of_cut in sorted(by_cut.items(), reverse=True):
        events += sum(entry.stated_events for entry in of_cut)
        if chosen and (len(chosen) + len(of_cut) > ENTRIES_MAX or events > EVENTS_MAX):
            break
        chosen += of_cut
    return chosen


class _ReadBack:
    """Reads entries back one after the other, so that one at a time is held; keeps what was found in each."""

    def __init__(self, pod: str, entries: list[LoggedEntry]) -> None:
        self._pod = pod
        self._entries = entries
        self._found: list[tuple[LoggedEntry, int, str]] = []
        self.trimmed_cut = 0
        """The highest cut that trimming took entries of, meanwhile: nothing is said of it and those before."""

    def rows(self) -> pa.RecordBatchReader:
        """Return the events of all entries with their cut and partition, as a stream."""
        return pa.RecordBatchReader.from_batches(_placed_schema(), self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for entry in self._entries:
            events = entry.fetch()
            if events is not None:
                self._found.append((entry, events.num_rows, entry_checksum(events, _place(self._pod, entry))))
                yield from _placed(entry, events).to_batches()
            elif entry.is_trimmed():
                self.trimmed_cut = max(self.trimmed_cut, entry.cut)

    @property
    def lowest_cut(self) -> int | None:
        """The first cut of which anything is said, if there is one."""
        return min((entry.cut for entry in self._entries if entry.cut > self.trimmed_cut), default=None)

    def stated(self) -> pa.Table:
        """Return what the manifests say of the entries."""
        rows = [(entry, entry.stated_events, entry.stated_checksum) for entry in self._entries]
        return _entry_table([row for row in rows if row[0].cut > self.trimmed_cut])

    def found(self) -> pa.Table:
        """Return what was in them."""
        return _entry_table([row for row in self._found if row[0].cut > self.trimmed_cut])


def _log_with_lake(run: PodRun, entries: list[LoggedEntry], through: int) -> list[Outcome]:
    """Compare what is in the newest of some entries with what their manifests state and with the lake."""
    connection, limits, read_back = run.connection, run.context.limits, _ReadBack(run.pod, newest(entries))
    others = [column for column in (*STORED_COLUMNS, "cut", "partition") if column != "payload"]
    load(connection, "log_rows", read_back.rows(), f"{', '.join(others)}, md5(payload) as payload_md5")
    numbers = ", ".join(f'"{name}"::BIGINT as "{name}"' for name in NUMBERS)
    connection.execute(
        f"create or replace view {table('log_events')} as "
        f"select event_id, {numbers}, {', '.join(TEXTS)}, {', '.join(MOMENTS)} from {table('log_rows')} "
        f"where cut > {int(read_back.trimmed_cut)}"
    )
    load(connection, "entries_stated", read_back.stated().to_reader())
    load(connection, "entries_found", read_back.found().to_reader())
    checked = compare(connection, ENTRY_SHAPE, table("entries_stated"), table("entries_found"), limits)
    lowest, lake = read_back.lowest_cut or through + 1, table("lake_events")
    connection.execute(LAKE_EVENTS.format(target=lake), {"pod": run.pod, "after": lowest - 1, "until": through})
    return [checked, compare(connection, LOG_SHAPE, table("log_events"), lake, limits)]


def _place(pod: str, entry: LoggedEntry) -> str:
    return f"{pod}/{entry.epoch}/{entry.partition}/{entry.cut}/{entry.chunk}"


def _entry_table(rows: list[tuple[LoggedEntry, int, str]]) -> pa.Table:
    names = ("cut", "partition", "chunk")
    keys = {name: pa.array([str(getattr(entry, name)) for entry, _, _ in rows], pa.string()) for name in names}
    events = pa.array([number for _, number, _ in rows], pa.int64())
    return pa.table({**keys, "events": events, "checksum": pa.array([text for _, _, text in rows], pa.string())})


def _placed(entry: LoggedEntry, events: pa.Table) -> pa.Table:
    placed = events.select(list(STORED_COLUMNS))
    for name, value in (("cut", entry.cut), ("partition", entry.partition)):
        placed = placed.append_column(name, pa.array([value] * events.num_rows, pa.int64()))
    return placed.cast(_placed_schema())


def _placed_schema() -> pa.Schema:
    kinds = {name: pa.timestamp("us", tz="UTC") for name in MOMENTS} | dict.fromkeys(NUMBERS, pa.int64())
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*STORED_COLUMNS, "cut", "partition")])


LOG_PAIR = Pair(
    name="log_manifests",
    left="OLTP: outbox (what is not pruned); log: manifests and entries (what is not trimmed)",
    right="lake: raw.events up to the cut",
    description=(
        "Every outbox row against the lake, event by event, with its cut and partition; every kept manifest against "
        f"the lake's counts per cut, partition and chunk; the newest entries (up to {ENTRIES_MAX:,}, or {EVENTS_MAX:,} "
        "events) read back: checksum against manifest, events against the lake. Incremental runs read older ones back, "
        "too."
    ),
    cannot_catch=(
        "Events that are pruned from the outbox and trimmed from the log: then only the lake has them (the OLTP pairs "
        "still count them). Damage inside older entries of the log, until a consumer reads and verifies them."
    ),
    copy="lake",
    stage=Stage.LAKE,
    shapes=(OUTBOX_SHAPE, MANIFEST_SHAPE, ENTRY_SHAPE, LOG_SHAPE),
    compare=_compare,
    queries={"outbox": OUTBOX, "cuts": CUTS},
    sweep=Sweep.CUTS,
)
