"""The ledger of breaks: what comparisons found is opened as breaks; a later one that finds the key in order ends them.

A result counts when keys were compared and it is newer than what the ledger has of its pair and pod. What could not be
looked at, or did not get there in time, says nothing about any key; nothing is said of keys that a copy has parked, or
that are outside of the scope of a result that did not look at everything.

Belongs here: recording. Does not belong here: which breaks end, and how (`ending.py`), comparing (`reconcile/`),
changes by people and repairs (`states.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from contracts.breaks import team_of
from contracts.clock import Clock, utc_now
from contracts.verdicts import Difference, PairResult
from repair.ledger.ending import end
from repair.ledger.tables import Connection, ledger, one

COMPARISON = "comparison"
"""Who changed a break, when it was a comparison."""

OVERTAKEN_WITHIN = timedelta(hours=1)
"""A lower cut so soon after a higher one is a comparison that was overtaken; later, the pod was put back to earlier."""

NEVER = datetime.min.replace(tzinfo=UTC)
"""When the epoch was opened in which a pod began."""

INCOMING = """
create temporary table if not exists incoming (
    entity text, key text[], kind text, merchant_id text, day text, currency text, columns jsonb, amounts jsonb,
    aggregate_key text
) on commit drop
"""
COPY = "copy incoming (entity, key, kind, merchant_id, day, currency, columns, amounts, aggregate_key) from stdin"
# One row per key: a comparison whose entity names a key twice says the same of it.
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
    """What recording the results of one run did to the ledger."""

    run: str
    opened_group_ids: tuple[int, ...] = ()
    ended_group_ids: tuple[int, ...] = ()
    breaks_opened: int = 0
    breaks_seen: int = 0
    """Unended breaks that were found again."""
    breaks_reopened: int = 0
    """Of these, accepted ones whose difference is no longer the accepted one."""
    breaks_repaired: int = 0
    breaks_vanished: int = 0
    results_overtaken: int = 0
    """Results that say nothing, because a newer comparison was recorded before."""
    taken_in: tuple[tuple[str, str], ...] = ()
    """Pair and pod of the results that count."""

    @property
    def breaks_ended(self) -> int:
        """Breaks whose key was found in order."""
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
    """Take the results of one run into the ledger, all or none; return what became of breaks and groups.

    A key that differs and has no unended break opens one; a break whose key is no longer listed ends, if the result
    lists all that differs and looked at the key. `run` names the comparison, for the history.
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
    """Return whether the copy chose the cut: then it may stand at the same one later, and the cut orders nothing."""
    return bool(result.cut_vector) or not result.cut


def amounts_of(difference: Difference) -> dict[str, int]:
    """Return the signed differences by column: what a person accepts who accepts a break."""
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
    """Return whether a result is not newer than what was recorded of its pair and pod before, by what each has seen.

    Cuts are ordered by their epoch first: after one was opened, lower numbers are newer. A lower cut of a comparison
    that began after the other was recorded is newer, too: the pod was put back to an earlier state. A copy that chooses
    its cut is read right after the moment was numbered.
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
    """Keep the number of keys of the groups exact, also where not every key is listed."""
    listed: dict[str, int] = {}
    for item in result.sample:
        listed[item.kind.value] = listed.get(item.kind.value, 0) + 1
    for kind in listed:
        unlisted = max(result.classes.get(kind, 0) - listed[kind], 0)
        connection.execute(GROUP_KEYS, {**bound, "kind": kind, "unlisted": unlisted})
