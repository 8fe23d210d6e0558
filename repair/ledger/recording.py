"""Records results in the ledger: a key that differs opens a break, a later result that finds the key in order ends it.

A result counts when keys were compared and it is newer than the recorded result of its pair and pod. An unknown or late
result without a comparison says nothing about any key. No result says anything about keys that the copy has parked, or
that are outside of its scope.

Belongs here: recording. Does not belong here: which breaks end, and how (`ending.py`), comparing (`reconcile/`),
changes by people and repairs (`states.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from contracts.breaks import team_of
from contracts.clock import Clock, utc_now
from contracts.verdicts import Difference, PairResult
from repair.ledger.ending import end
from repair.ledger.schema import Connection, ledger, one

COMPARISON = "comparison"
"""The value of `by` in the history when a comparison changed a break."""

OVERTAKEN_WITHIN = timedelta(hours=1)
"""A lower cut so soon after a higher one is an overtaken comparison; later, the pod was restored."""

NEVER = datetime.min.replace(tzinfo=UTC)
"""Stands for the opening time of a pod's first epoch."""

INCOMING = """
create temporary table if not exists incoming (
    entity text, key text[], kind text, merchant_id text, day text, currency text, columns jsonb, amounts jsonb,
    aggregate_key text
) on commit drop
"""
COPY = "copy incoming (entity, key, kind, merchant_id, day, currency, columns, amounts, aggregate_key) from stdin"
# Keep one row per key: when a comparison lists a key twice, both rows say the same.
UNIQUE = """
delete from incoming as a using incoming as b where a.ctid > b.ctid and a.entity = b.entity and a.key = b.key
"""

NEWEST = """
select cut, checked_at, epoch_opened_at, moment, recorded_moment from trust.compared
where pair = %(pair)s and pod = %(pod)s
"""
RECORDED_MOMENT = "select nextval('trust.moments') as moment"
TAKEN_IN = """
insert into trust.compared (pair, pod, cut, checked_at, run, epoch_opened_at, moment, recorded_moment)
values (
    %(pair)s, %(pod)s, %(cut)s, %(checked_at)s, %(run)s, %(epoch_opened_at)s, %(moment)s, %(recorded_moment)s
)
on conflict (pair, pod) do update
set cut = excluded.cut, checked_at = excluded.checked_at, run = excluded.run,
    epoch_opened_at = excluded.epoch_opened_at, moment = excluded.moment, recorded_moment = excluded.recorded_moment
"""

SEEN_AGAIN = """
with matched as (
    select b.break_id, i.*, b.state as from_state,
           b.state = 'accepted' and (b.amounts <> i.amounts or b.kind <> i.kind) as is_other
    from trust.breaks as b
    join incoming as i on i.entity = b.entity and i.key = b.key
    where b.pair = %(pair)s and b.pod = %(pod)s and b.ended_at is null
),
updated as (
    update trust.breaks as b
    set kind = m.kind, merchant_id = m.merchant_id, day = m.day, currency = m.currency, columns = m.columns,
        amounts = m.amounts, aggregate_key = m.aggregate_key, last_seen_at = %(checked_at)s, last_seen_cut = %(cut)s,
        times_seen = b.times_seen + 1, seen_from = %(moment)s, seen_until = %(recorded_moment)s,
        state = case when m.is_other then 'open' else b.state end,
        reason = case when m.is_other then %(other)s else b.reason end
    from matched as m
    where b.break_id = m.break_id
    returning b.break_id, m.from_state, b.state as to_state
),
logged as (
    insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
    select break_id, %(now)s, from_state, to_state, %(by)s, %(other)s, %(run)s
    from updated where from_state <> to_state
)
select count(*) as seen, count(*) filter (where from_state <> to_state) as reopened from updated
"""

NEW_GROUPS = """
with fresh as (
    select i.kind, count(*) as number
    from incoming as i
    where not exists (
        select from trust.breaks as b
        where b.pair = %(pair)s and b.pod = %(pod)s and b.ended_at is null and b.entity = i.entity and b.key = i.key
    )
    group by i.kind
)
insert into trust.break_groups (pair, pod, kind, opened_at, opened_cut, opened_run, keys)
select %(pair)s, %(pod)s, kind, %(checked_at)s, %(cut)s, %(run)s, 0 from fresh order by kind
on conflict (pair, pod, kind) where ended_at is null do nothing
returning group_id
"""
OPENED = """
with opened as (
    insert into trust.breaks (
        group_id, pair, pod, entity, key, kind, merchant_id, day, currency, columns, amounts, aggregate_key, state,
        owner, reason, first_seen_at, first_seen_cut, last_seen_at, last_seen_cut, times_seen, repairs, seen_from,
        seen_until
    )
    select g.group_id, %(pair)s, %(pod)s, i.entity, i.key, i.kind, i.merchant_id, i.day, i.currency, i.columns,
           i.amounts, i.aggregate_key, 'open', %(owner)s, '', %(checked_at)s, %(cut)s, %(checked_at)s, %(cut)s, 1, 0,
           %(moment)s, %(recorded_moment)s
    from incoming as i
    join trust.break_groups as g
      on g.pair = %(pair)s and g.pod = %(pod)s and g.kind = i.kind and g.ended_at is null
    order by i.entity, i.key
    on conflict (pair, pod, entity, trust.key_digest(key)) where ended_at is null do nothing
    returning break_id
),
logged as (
    insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
    select break_id, %(now)s, null, 'open', %(by)s, %(found)s, %(run)s from opened
)
select count(*) as opened from opened
"""
GROUP_KEYS = """
update trust.break_groups as g
set keys = greatest(g.keys, %(unlisted)s + (select count(*) from trust.breaks as b where b.group_id = g.group_id))
where g.pair = %(pair)s and g.pod = %(pod)s and g.kind = %(kind)s and g.ended_at is null
"""

IS_OTHER = "The difference is no longer the one that was accepted."


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What recording the results of one run changed in the ledger."""

    run: str
    opened_group_ids: tuple[int, ...] = ()
    ended_group_ids: tuple[int, ...] = ()
    breaks_opened: int = 0
    breaks_seen: int = 0
    """Number of unended breaks that were found again."""
    breaks_reopened: int = 0
    """Number of these that were accepted and are open again, because the difference has changed."""
    breaks_repaired: int = 0
    breaks_vanished: int = 0
    results_overtaken: int = 0
    """Number of results that do not count, because a newer comparison was recorded before."""
    taken_in: tuple[tuple[str, str], ...] = ()
    """(Pair, pod) of the results that count."""

    def __add__(self, other: Recorded) -> Recorded:
        """Return what both changed, one after the other."""
        both = {
            one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self) if one.name != "run"
        }
        return Recorded(run=self.run, **both)

    @property
    def breaks_ended(self) -> int:
        """Number of breaks that ended because their key was found in order."""
        return self.breaks_repaired + self.breaks_vanished


@dataclass(kw_only=True)
class _Tally:
    opened_group_ids: list[int] = field(default_factory=list)
    ended_group_ids: list[int] = field(default_factory=list)
    taken_in: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def add(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self.numbers[name] = self.numbers.get(name, 0) + number


def record(control_dsn: str, results: Sequence[PairResult], *, run: str, clock: Clock = utc_now) -> Recorded:
    """Record the results of one run in one transaction; return what changed.

    A key that differs and has no unended break opens one. A break whose key is not listed any more ends, if the result
    lists all differences and covers the key. `run` names the comparison in the history.
    """
    tally = _Tally()
    with ledger(control_dsn) as connection:
        for result in results:
            if not result.is_of_keys:
                continue
            if _is_overtaken(connection, result):
                tally.add(results_overtaken=1)
                continue
            _record_one(connection, result, run, clock(), tally)
            tally.taken_in.append((result.pair, result.pod))
    return Recorded(
        run=run,
        opened_group_ids=tuple(tally.opened_group_ids),
        ended_group_ids=tuple(tally.ended_group_ids),
        taken_in=tuple(tally.taken_in),
        **tally.numbers,
    )


def chooses_cut(result: PairResult) -> bool:
    """Return whether the copy's own positions were compared; then later results may have the same cut."""
    return bool(result.cut_vector) or not result.cut


def amounts_of(difference: Difference) -> dict[str, int]:
    """Return column -> signed difference. An acceptance of a break holds only for exactly these differences."""
    return {item.column: item.difference for item in difference.columns if item.difference is not None}


def _is_overtaken(connection: Connection, result: PairResult) -> bool:
    newest = connection.execute(NEWEST, {"pair": result.pair, "pod": result.pod}).fetchone()
    return newest is not None and is_overtaken(
        result,
        newest["cut"],
        newest["checked_at"],
        newest["epoch_opened_at"],
        newest_moment=newest["moment"],
        newest_recorded_moment=newest["recorded_moment"],
    )


def is_overtaken(
    result: PairResult,
    newest_cut: int | None,
    newest_checked_at: datetime,
    newest_epoch_opened_at: datetime | None = None,
    *,
    newest_moment: int | None = None,
    newest_recorded_moment: int | None = None,
) -> bool:
    """Return whether a result is not newer than the recorded one of its pair and pod, by what each of them has seen.

    Cuts are ordered by epoch first, because after an epoch was opened, lower numbers may be newer. A lower cut of a
    comparison that began after the other one was recorded is newer, too: the pod was restored to an earlier state. When
    the copy's own positions were compared, the moments decide, because the copy is read right after its moment was
    taken.
    """
    if chooses_cut(result) or newest_cut is None or result.cut is None:
        if result.moment is not None and newest_moment is not None:
            return result.moment < newest_moment
        return result.checked_at < newest_checked_at
    if result.moment is not None and newest_recorded_moment is not None and result.moment > newest_recorded_moment:
        return False
    is_lower = _order(result.epoch_opened_at, result.cut) <= _order(newest_epoch_opened_at, newest_cut)
    return is_lower and result.checked_at < newest_checked_at + OVERTAKEN_WITHIN


def _order(epoch_opened_at: datetime | None, cut: int) -> tuple[datetime, int]:
    return (epoch_opened_at or NEVER, cut)


def _record_one(connection: Connection, result: PairResult, run: str, now: datetime, tally: _Tally) -> None:
    bound = _bound(result, run, now)
    if result.moment is not None:
        bound["recorded_moment"] = one(connection, RECORDED_MOMENT, {})["moment"]
    connection.execute(TAKEN_IN, bound)
    _load(connection, result)
    if result.sample:
        seen = one(connection, SEEN_AGAIN, bound)
        tally.add(breaks_seen=seen["seen"], breaks_reopened=seen["reopened"])
        tally.opened_group_ids += [row["group_id"] for row in connection.execute(NEW_GROUPS, bound)]
        tally.add(breaks_opened=one(connection, OPENED, bound)["opened"])
        _count_keys(connection, result, bound)
    if result.is_sample_complete:
        ended = end(connection, result, bound)
        tally.add(breaks_repaired=ended.repaired, breaks_vanished=ended.vanished)
        tally.ended_group_ids += ended.group_ids


def _bound(result: PairResult, run: str, now: datetime) -> dict[str, Any]:
    at = f"The comparison at cut {result.cut}"
    if chooses_cut(result):
        at = f"The comparison of {result.checked_at:%Y-%m-%d %H:%M:%S} UTC (the copy at cut {result.cut})"
    return {
        "pair": result.pair,
        "pod": result.pod,
        "cut": result.cut,
        "checked_at": result.checked_at,
        "epoch_opened_at": result.epoch_opened_at,
        "chooses_cut": chooses_cut(result),
        "moment": result.moment,
        "recorded_moment": None,
        "late_aggregates": list(result.late_aggregates),
        "run": run,
        "now": now,
        "by": COMPARISON,
        "owner": team_of(result.pair),
        "found": f"{at} found the difference.",
        "other": f"{IS_OTHER} {at} found it.",
        "vanished": f"{at} found the key in order; no repair mended it.",
        "repaired": f"{at} found the key in order, after the repair ",
    }


def _load(connection: Connection, result: PairResult) -> None:
    """Write the result's differing keys into the temporary table `incoming`."""
    connection.execute(INCOMING)
    connection.execute("truncate incoming")
    if not result.sample:
        return
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for item in result.sample:
            copy.write_row(
                (
                    item.entity,
                    list(item.key),
                    item.kind.value,
                    item.merchant_id,
                    item.day,
                    item.currency,
                    Jsonb([vars(column) for column in item.columns]),
                    Jsonb(amounts_of(item)),
                    item.aggregate_key,
                )
            )
    connection.execute("analyze incoming")
    connection.execute(UNIQUE)


def _count_keys(connection: Connection, result: PairResult, bound: dict[str, Any]) -> None:
    """Update the exact number of keys of the groups, also when not every key is listed."""
    listed: dict[str, int] = {}
    for item in result.sample:
        listed[item.kind.value] = listed.get(item.kind.value, 0) + 1
    for kind in listed:
        unlisted = max(result.classes.get(kind, 0) - listed[kind], 0)
        connection.execute(GROUP_KEYS, {**bound, "kind": kind, "unlisted": unlisted})
