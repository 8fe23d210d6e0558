"""Finding lines that two aggregates claim: a line id belongs to the aggregate whose event came first in the outbox.

All other aggregates' events with that line are bad. Cuts of two pods cannot be compared: between pods a line belongs to
the aggregate that the stored history has, otherwise to the pod that is judged first.

Belongs here: SQL over the lines of the lake's events and of the stored histories. Does not belong here: what follows
from a bad event (`derived/defective.py`), lines that one aggregate has twice (`derived/defects.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from contracts.events import STATE_TYPES
from contracts.events.upcasting import newest_sql
from derived.defective import Scope
from derived.defects import judged, unique_events
from derived.histories_as_of import LEFT_OUT_EVENTS, Connection, has_history, history_of, stood, window_of
from derived.lake_connection import quote
from derived.lake_schema import EVENTS

LINE_IDS = {"order": "order_line_id", "refund": "refund_line_id"}
"""Aggregate type -> the id of its lines, which must be unique over aggregates."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """An event with a line that belongs to another aggregate."""

    aggregate_type: str
    aggregate_id: str
    order_id: str | None
    cut: int
    event_id: str

    @property
    def scope(self) -> Scope:
        """The scope that is left out because of the event."""
        if self.aggregate_type == "order" or self.order_id is None:
            return self.aggregate_type, self.aggregate_id
        return "order", self.order_id


def shared_lines(
    connection: Connection, pod: str, since: int, cut: int, *, others: Mapping[str, tuple[int, int]]
) -> list[Claim]:
    """Return events of `pod` up to `cut` that claim a line of another aggregate: new events, and those left out.

    `others`: pod that was judged before -> (after this cut, up to this cut) of its events that are in no history yet.
    """
    return [
        claim for aggregate_type in LINE_IDS for claim in _of_type(connection, pod, aggregate_type, since, cut, others)
    ]


def _of_type(
    connection: Connection, pod: str, aggregate_type: str, since: int, cut: int, others: Mapping[str, tuple[int, int]]
) -> Iterator[Claim]:
    new = [f"select aggregate_id, pod, line_id from ({_lines(aggregate_type, window_of(pod, since, cut))})"]
    new += _still_left_out(connection, pod, aggregate_type, since)
    elsewhere = [
        f"select aggregate_id, pod, line_id from ({_lines(aggregate_type, window_of(other, *window))})"
        for other, window in others.items()
    ]
    stands = [_standing(aggregate_type, pod, since, others)] if has_history(connection, aggregate_type) else []
    try:
        claimed = _claimed(connection, pod, new, [*elsewhere, *stands])
    except duckdb.IOException:
        if since or not stands:
            raise
        # A file of the stored history is lost. This build recomputes everything, so judge without the history.
        claimed = _claimed(connection, pod, new, elsewhere)
    if claimed:
        yield from _later_claims(connection, pod, aggregate_type, cut, claimed)


def _claimed(
    connection: Connection, pod: str, new: Iterable[str], elsewhere: Iterable[str]
) -> list[tuple[str, list[str], bool]]:
    """Return new lines that several aggregates claim: (line id, aggregates of `pod`, whether another pod's claims it).

    An aggregate that moved has the same lines in both pods: it counts as one.
    """
    return connection.execute(
        f"""with new as ({" union ".join(new)}),
            claims as ({" union all ".join(["from new", *elsewhere])})
            select line_id, mine, len(list_filter(others, lambda one: not list_contains(mine, one))) > 0
            from (
                select line_id, coalesce(list(distinct aggregate_id) filter (where pod = {quote(pod)}), []) as mine,
                       coalesce(list(distinct aggregate_id) filter (where pod <> {quote(pod)}), []) as others
                from claims semi join new using (line_id)
                group by line_id having count(distinct aggregate_id) > 1
            )"""
    ).fetchall()


def _later_claims(
    connection: Connection, pod: str, aggregate_type: str, cut: int, claimed: Iterable[tuple[str, list[str], bool]]
) -> Iterator[Claim]:
    """Yield the events that claim a line second or later; an event that is wrong in itself cannot claim a line."""
    is_elsewhere = {line_id: found for line_id, _, found in claimed}
    condition = f"{window_of(pod, 0, cut)} and aggregate_id in (select unnest($ids::VARCHAR[]))"
    whole = f"({unique_events(condition)})"
    rows: list[tuple[Any, ...]] = connection.execute(
        f"""select line_id, aggregate_id, order_id, cut, event_id from ({_lines(aggregate_type, condition)})
            semi join (select cut, event_id from ({judged(aggregate_type, whole)}) where defect is null)
                using (cut, event_id)
            where line_id in (select unnest($lines::VARCHAR[]))
            order by line_id, cut, "position", event_id""",
        {"ids": sorted({one for _, ids, _ in claimed for one in ids}), "lines": sorted(is_elsewhere)},
    ).fetchall()
    owners: dict[str, str | None] = dict.fromkeys((line_id for line_id, found in is_elsewhere.items() if found), None)
    for line_id, aggregate_id, order_id, at, event_id in rows:
        if owners.setdefault(line_id, aggregate_id) != aggregate_id:
            yield Claim(
                aggregate_type=aggregate_type, aggregate_id=aggregate_id, order_id=order_id, cut=at, event_id=event_id
            )


def _still_left_out(connection: Connection, pod: str, aggregate_type: str, since: int) -> list[str]:
    """Return queries for the lines of earlier events that are in no history: an empty list, or one query."""
    events = f"from {LEFT_OUT_EVENTS} where pod = {quote(pod)} and into_cut is null and aggregate_type = ?"
    ((first,),) = connection.execute(f"select min(cut) {events} and cut <= ?", [aggregate_type, since]).fetchall()
    if first is None:
        return []
    lines = _lines(aggregate_type, window_of(pod, first - 1, since))
    left_out = f"select cut, event_id {events.replace('?', quote(aggregate_type))}"
    return [f"select aggregate_id, pod, line_id from ({lines}) semi join ({left_out}) using (cut, event_id)"]


def _lines(aggregate_type: str, condition: str) -> str:
    """Return a query for the lines of raw events; an event that cannot be read has none."""
    order_id, payload = "$.state.order_id", newest_sql(aggregate_type)
    return f"""
        select pod, cut, "position", event_id, aggregate_id,
               try(json_extract_string({payload}, '{order_id}')) as order_id,
               unnest(try(json_extract_string({payload}, '$.state.lines[*].{LINE_IDS[aggregate_type]}'))) as line_id
        from {EVENTS} where aggregate_type = '{aggregate_type}' and ({condition})"""


def _standing(aggregate_type: str, pod: str, since: int, others: Mapping[str, tuple[int, int]]) -> str:
    """Return a query for the lines in the stored histories: of `pod` as of `since`, of `others` as of their starts."""
    starts = {name: window[0] for name, window in others.items()} | {pod: since}
    stand = " or ".join(stood(name, start) for name, start in starts.items())
    rest = f"pod not in ({', '.join(quote(name) for name in starts)}) and valid_to_cut is null"
    return f"""
        select {STATE_TYPES[aggregate_type].ID_FIELD} as aggregate_id, pod,
               unnest(list_transform(lines, lambda one: one.{LINE_IDS[aggregate_type]})) as line_id
        from {history_of(aggregate_type)} where {stand} or ({rest})"""
