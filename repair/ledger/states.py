"""Changes of a break's state by people and repairs; each is checked by the transitions, and kept in the history.

Belongs here: assigning, accepting, reopening, escalating; claiming for a repair, settling afterwards. Does not belong
here: opening and ending breaks (only comparisons do, `repair/ledger/recording.py`), what a repair does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from contracts.breaks import ENDED, TRANSITIONS, Break, BreakState
from contracts.clock import Clock, utc_now
from contracts.errors import IllegalTransitionError, InputError, NotFoundError
from contracts.text import counted
from repair.ledger.reads import BREAK_COLUMNS, break_of
from repair.ledger.schema import Connection, ledger

REPAIR = "repair"
"""The value of `by` in the history when a repair changed a break."""

CHOSEN = """
select break_id, state from trust.breaks
where (%(break_ids)s::bigint[] is null or break_id = any(%(break_ids)s))
  and (%(group_id)s::bigint is null or group_id = %(group_id)s)
order by break_id
"""
CHANGED = """
with changed as (
    update trust.breaks as b
    set state = %(to_state)s, reason = %(reason)s, lease_until = null,
        repairs = b.repairs - %(repairs_undone)s, claimed_run = case when %(to_state)s = 'open' then null
            else b.claimed_run end
    from (select break_id, state from trust.breaks where break_id = any(%(break_ids)s)) as old
    where b.break_id = old.break_id
    returning b.break_id, old.state as from_state
)
insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
select break_id, %(now)s, from_state, %(to_state)s, %(by)s, %(reason)s, %(run)s from changed
"""
ASSIGNED = """
with changed as (
    update trust.breaks set owner = %(owner)s where break_id = any(%(break_ids)s) returning break_id, state
)
insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
select break_id, %(now)s, state, state, %(by)s, 'Assigned to ' || %(owner)s || '.', '' from changed
"""

# Breaks with the fewest attempts come first, so that a break that no comparison can settle does not block the others.
CLAIMED = f"""
with chosen as (
    select break_id, state as from_state from trust.breaks
    where (state = 'open' or (state = 'repairing' and lease_until <= %(now)s))
      and (%(pods)s::text[] is null or pod = any(%(pods)s))
      and (%(pairs)s::text[] is null or pair = any(%(pairs)s) or split_part(pair, '.', 1) = any(%(pairs)s))
      and (%(break_ids)s::bigint[] is null or break_id = any(%(break_ids)s))
    order by repairs, break_id
    limit %(limit)s
),
claimed as (
    update trust.breaks as b
    set state = 'repairing', repairs = b.repairs + 1, reason = '', claimed_run = %(run)s, claimed_at = %(now)s,
        lease_until = %(lease_until)s, claimed_moment = nextval('trust.moments'),
        claimed_cut = (select max(c.cut) from trust.compared as c where c.pod = b.pod)
    from chosen as c
    where b.break_id = c.break_id
    returning b.*, c.from_state
),
logged as (
    insert into trust.break_history (break_id, at, from_state, to_state, by, reason, run)
    select break_id, %(now)s, from_state, 'repairing', %(by)s, %(reason)s, %(run)s from claimed
)
select {BREAK_COLUMNS} from claimed order by break_id
"""
OF_RUN = """
select break_id, repairs, last_seen_cut,
       case when seen_from is not null and claimed_moment is not null then seen_from > claimed_moment
            else last_seen_at > claimed_at end as is_seen
from trust.breaks
where claimed_run = %(run)s and state = 'repairing'
  and (%(break_ids)s::bigint[] is null or break_id = any(%(break_ids)s))
order by break_id
"""
ENDED_BY = """
select count(*) filter (where state = 'repaired') as repaired, count(*) filter (where state = 'vanished') as vanished
from trust.breaks where claimed_run = %(run)s
"""

NOT_LOOKED_AT = "The comparison after the repair said nothing of the key (it was late, unknown, or listed others)."


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The result for the breaks that a repair had claimed."""

    repaired: int
    """Number of breaks that ended as repaired."""
    vanished: int = 0
    """Number of breaks that ended as vanished: the key is in order, and nothing was changed for it."""
    reopened: tuple[int, ...] = ()
    """Breaks that are open again: the key still differs, or was not compared."""
    escalated: tuple[int, ...] = ()
    """Breaks whose key still differs after the allowed number of repairs."""

    @property
    def ended(self) -> int:
        """Number of breaks that a comparison has ended."""
        return self.repaired + self.vanished

    def after(self, first: Settled | None) -> Settled:
        """Return the result of a repair that has settled some of its breaks before."""
        if first is None:
            return self
        reopened, escalated = {*first.reopened, *self.reopened}, {*first.escalated, *self.escalated}
        return replace(self, reopened=tuple(sorted(reopened)), escalated=tuple(sorted(escalated)))


def assign(
    control_dsn: str,
    *,
    owner: str,
    by: str,
    break_ids: Collection[int] | None = None,
    group_id: int | None = None,
    clock: Clock = utc_now,
) -> list[int]:
    """Assign breaks, or all unended breaks of a group, to a person or team; return their ids."""
    owner = _said(owner, "Say to whom the break is assigned.")
    with ledger(control_dsn) as connection:
        states = _chosen(connection, break_ids, group_id)
        ids = _unended(states, group_id)
        connection.execute(ASSIGNED, {"break_ids": ids, "owner": owner, "by": by, "now": clock()})
    return ids


def accept(
    control_dsn: str,
    *,
    reason: str,
    by: str,
    break_ids: Collection[int] | None = None,
    group_id: int | None = None,
    clock: Clock = utc_now,
) -> list[int]:
    """Accept breaks, or the breaks of a group that may be accepted, with a reason; return their ids.

    Raises InputError without a reason, IllegalTransitionError when one of `break_ids`, or every break of the group, may
    not be accepted.
    """
    reason = _said(reason, "Say why the difference is accepted: the reason is kept with it.")
    return _change(control_dsn, BreakState.ACCEPTED, reason, by, break_ids, group_id, clock)


def reopen(
    control_dsn: str,
    *,
    by: str,
    reason: str = "",
    break_ids: Collection[int] | None = None,
    group_id: int | None = None,
    clock: Clock = utc_now,
) -> list[int]:
    """Reopen accepted or escalated breaks, so that repairs claim them; return their ids."""
    with ledger(control_dsn) as connection:
        states = _chosen(connection, break_ids, group_id)
        can = {one: state for one, state in states.items() if state in (BreakState.ACCEPTED, BreakState.ESCALATED)}
        ids = _allowed(states, set(can), BreakState.OPEN, group_id)
        _write(connection, ids, BreakState.OPEN, reason.strip(), by, "", clock())
    return ids


def escalate(
    control_dsn: str, break_ids: Collection[int], *, reason: str, by: str, run: str = "", clock: Clock = utc_now
) -> list[int]:
    """Escalate breaks to people, with a reason; return their ids. Breaks that have ended meanwhile are skipped."""
    reason = _said(reason, "Say why the break is escalated: people start from the reason.")
    with ledger(control_dsn) as connection:
        states = _chosen(connection, break_ids, None)
        standing = {one: state for one, state in states.items() if state not in ENDED}
        can = {one for one, state in standing.items() if BreakState.ESCALATED in TRANSITIONS[state]}
        ids = _allowed(standing, can, BreakState.ESCALATED, None)
        _write(connection, ids, BreakState.ESCALATED, reason, by, run, clock())
    return ids


def claim(
    control_dsn: str,
    *,
    run: str,
    limit: int,
    lease_seconds: float,
    pods: Collection[str] | None = None,
    pairs: Collection[str] | None = None,
    break_ids: Collection[int] | None = None,
    clock: Clock = utc_now,
) -> list[Break]:
    """Claim up to `limit` breaks for the repair `run`: open breaks, and breaks whose lease is over.

    The lease lasts `lease_seconds`: until then no other repair can claim them. Each claim counts as an attempt.
    """
    now = clock()
    bound = {
        "run": _said(run, "A repair must have a name."),
        "limit": limit,
        "now": now,
        "lease_until": now + timedelta(seconds=lease_seconds),
        "pods": None if pods is None else list(pods),
        "pairs": None if pairs is None else list(pairs),
        "break_ids": None if break_ids is None else list(break_ids),
        "by": REPAIR,
        "reason": f"Claimed by the repair {run}.",
    }
    with ledger(control_dsn) as connection:
        return [break_of(row) for row in connection.execute(CLAIMED, bound)]


def settle(
    control_dsn: str,
    run: str,
    *,
    attempts_max: int,
    break_ids: Collection[int] | None = None,
    clock: Clock = utc_now,
) -> Settled:
    """Set the state of the breaks that a repair had claimed and its comparison did not end (None: of all of them).

    A break whose key still differs is open again, or escalated after `attempts_max` repairs. A break whose key was not
    compared is open again.
    """
    with ledger(control_dsn) as connection:
        ended = connection.execute(ENDED_BY, {"run": run}).fetchone()
        assert ended is not None
        rows = connection.execute(OF_RUN, _of_run(run, break_ids)).fetchall()
        decided: dict[tuple[BreakState, str], list[int]] = {}
        for row in rows:
            is_over = row["is_seen"] and row["repairs"] >= attempts_max
            state = BreakState.ESCALATED if is_over else BreakState.OPEN
            reason = did_not_hold(row["repairs"], row["last_seen_cut"]) if row["is_seen"] else NOT_LOOKED_AT
            decided.setdefault((state, reason), []).append(row["break_id"])
        for (state, reason), break_ids in decided.items():
            _write(connection, break_ids, state, reason, REPAIR, run, clock())
    of_state = {state: [one for (to, _), ids in decided.items() if to is state for one in ids] for state in BreakState}
    return Settled(
        **ended,
        reopened=tuple(sorted(of_state[BreakState.OPEN])),
        escalated=tuple(sorted(of_state[BreakState.ESCALATED])),
    )


def _of_run(run: str, break_ids: Collection[int] | None) -> dict[str, Any]:
    return {"run": run, "break_ids": None if break_ids is None else list(break_ids)}


def did_not_hold(repairs: int, cut: int | None) -> str:
    """Return the sentence for a break that repairs did not end."""
    tried = "One repair" if repairs == 1 else f"{counted(repairs, 'repair')}"
    return f"{tried} did not hold: the comparison at cut {cut} still found the difference."


def release(control_dsn: str, run: str, *, reason: str, clock: Clock = utc_now) -> list[int]:
    """Release the breaks that a repair has claimed and not worked on, without counting an attempt; return their ids."""
    with ledger(control_dsn) as connection:
        ids = [row["break_id"] for row in connection.execute(OF_RUN, _of_run(run, None))]
        _write(connection, ids, BreakState.OPEN, reason, REPAIR, run, clock(), repairs_undone=1)
    return ids


def _change(
    control_dsn: str,
    to_state: BreakState,
    reason: str,
    by: str,
    break_ids: Collection[int] | None,
    group_id: int | None,
    clock: Clock,
) -> list[int]:
    with ledger(control_dsn) as connection:
        states = _chosen(connection, break_ids, group_id)
        ids = _allowed(
            states, {one for one, state in states.items() if to_state in TRANSITIONS[state]}, to_state, group_id
        )
        _write(connection, ids, to_state, reason, by, "", clock())
    return ids


def _said(text: str, otherwise: str) -> str:
    if not text.strip():
        raise InputError(otherwise)
    return text.strip()


def _chosen(connection: Connection, break_ids: Collection[int] | None, group_id: int | None) -> dict[int, BreakState]:
    """Return break id -> state of the chosen breaks.

    Raises InputError unless exactly one of `break_ids` and `group_id` is given, NotFoundError when one does not exist.
    """
    if (break_ids is None) == (group_id is None):
        raise InputError("Name breaks or a group, one of the two.")
    bound = {"break_ids": None if break_ids is None else list(break_ids), "group_id": group_id}
    states = {row["break_id"]: BreakState(row["state"]) for row in connection.execute(CHOSEN, bound)}
    missing = sorted(set(break_ids or ()) - set(states))
    if missing or not states:
        what = f"break {missing[0]}" if missing else f"group {group_id} of breaks"
        raise NotFoundError(f"There is no {what}; `tieout breaks list --all` shows those there are.")
    return states


def _unended(states: dict[int, BreakState], group_id: int | None) -> list[int]:
    return _allowed(states, {one for one, state in states.items() if state not in ENDED}, None, group_id)


def _allowed(
    states: dict[int, BreakState], can: Collection[int], to_state: BreakState | None, group_id: int | None
) -> list[int]:
    """Return the ids to change: all named breaks, or the breaks of the group that can be changed."""
    refused = [one for one in states if one not in can]
    if refused and (group_id is None or not can):
        becomes = f"become {to_state}" if to_state else "be assigned"
        whose = f"Break {refused[0]}" if group_id is None else f"Every break of group {group_id}, like {refused[0]},"
        raise IllegalTransitionError(f"{whose} is {states[refused[0]]} and cannot {becomes}; nothing was changed.")
    return [one for one in states if one in can]


def _write(
    connection: Connection,
    break_ids: list[int],
    to_state: BreakState,
    reason: str,
    by: str,
    run: str,
    now: datetime,
    *,
    repairs_undone: int = 0,
) -> None:
    bound: dict[str, Any] = {
        "break_ids": break_ids,
        "to_state": to_state.value,
        "reason": reason,
        "by": by,
        "run": run,
        "now": now,
        "repairs_undone": repairs_undone,
    }
    connection.execute(CHANGED, bound)
