"""Finding events that were written in a pod after their merchant had moved to another one.

A command may slip into the old pod while its merchant moves; then two pods have an event of one version. Of the two,
that of the later residence (the higher directory epoch) is the event. The other one is bad, and its aggregate is left
out by name: what it did, nobody has taken over, and money may have moved. Where a complete build has taken it in before
the other came, reports have it; then the later residence's event does not follow, and the aggregate is left out until
its whole state is stated again.

Belongs here: SQL over the keys of the lake's events. Does not belong here: what follows from a bad event
(`derived/defective.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import duckdb

from contracts.events.envelope import FIRST_DIRECTORY_EPOCH
from contracts.events.upcasting import newest_sql
from derived.defective import RESTATED, Scope
from derived.histories_as_of import LEFT_OUT_EVENTS, rows_of, window_of
from derived.lake_connection import quote
from derived.lake_schema import EVENTS
from derived.shared_lines import Claim

Connection = duckdb.DuckDBPyConnection

Windows = Mapping[str, tuple[int, int]]
"""Pod -> after which cut its events are in no history yet, and up to which cut it is read."""

MOVED = f"from {EVENTS} where directory_epoch > {FIRST_DIRECTORY_EPOCH}"
"""Files tell by themselves, without being read, that all their events are of the first epoch."""
HAS_MOVED = f"select exists ({MOVED})"
OF_MOVED = f"merchant_id in (select merchant_id {MOVED})"


def slipped_events(connection: Connection, pod: str, since: int, cut: int, elsewhere: Windows) -> list[Claim]:
    """Return events of `pod` up to `cut` that cannot stand beside those of their merchant's other residences."""
    if not elsewhere or not rows_of(connection, HAS_MOVED)[0][0]:
        return []
    windows = {**elsewhere, pod: (since, cut)}
    found = rows_of(connection, _conflicts(pod, windows))
    events: dict[str, set[tuple[int, str]]] = {}
    for aggregate_type, at, event_id in found:
        events.setdefault(aggregate_type, set()).add((at, event_id))
    return [
        claim
        for aggregate_type, chosen in sorted(events.items())
        for claim in _claims(connection, pod, aggregate_type, chosen)
    ]


def _conflicts(pod: str, windows: Windows) -> str:
    """Return a query for type, cut and id of the pod's events, of aggregates with news and of those left out."""
    read = " or ".join(window_of(name, 0, cut) for name, (_, cut) in windows.items())
    taken_in = " or ".join(f"(pod = {quote(name)} and cut <= {since})" for name, (since, _) in windows.items())
    return f"""
        with moved as (
            select aggregate_type, aggregate_id from {EVENTS}
            where {window_of(pod, *windows[pod])} and {OF_MOVED}
            union
            select aggregate_type, aggregate_id from {LEFT_OUT_EVENTS} where pod = {quote(pod)}
        ),
        versions as (
            select pod, cut, event_id, aggregate_type, aggregate_id, directory_epoch, aggregate_version as version,
                   ({taken_in}) and event_id not in (
                       select event_id from {LEFT_OUT_EVENTS} where into_cut is null
                   ) as is_taken_in
            from {EVENTS} semi join moved using (aggregate_type, aggregate_id)
            where ({read}) and {OF_MOVED}
        )
        select distinct mine.aggregate_type, mine.cut, mine.event_id
        from versions as mine join versions as other using (aggregate_type, aggregate_id)
        where mine.pod = {quote(pod)} and (
            (other.directory_epoch > mine.directory_epoch and other.version <= mine.version and not mine.is_taken_in)
            or (other.directory_epoch < mine.directory_epoch and other.version >= mine.version and other.is_taken_in)
        )"""


def _claims(
    connection: Connection, pod: str, aggregate_type: str, events: Collection[tuple[int, str]]
) -> Iterator[Claim]:
    order_id = f"try(json_extract_string({newest_sql(aggregate_type)}, '$.state.order_id'))"
    rows = rows_of(
        connection,
        f"""select distinct aggregate_id, {order_id}, cut, event_id from {EVENTS}
            where pod = $pod and aggregate_type = $aggregate_type and cut between $lowest and $highest
                and event_id in (select unnest($ids::VARCHAR[]))""",
        {
            "pod": pod,
            "aggregate_type": aggregate_type,
            "lowest": min(events)[0],
            "highest": max(events)[0],
            "ids": sorted(event_id for _, event_id in events),
        },
    )
    for aggregate_id, of_order, at, event_id in rows:
        yield Claim(
            aggregate_type=aggregate_type, aggregate_id=aggregate_id, order_id=of_order, cut=at, event_id=event_id
        )


def stated_again(connection: Connection, slipped: Sequence[Claim], elsewhere: Windows) -> set[Scope]:
    """Return the scopes of events that slipped in whose aggregate was stated again where its merchant lives now."""
    waiting = {(claim.aggregate_type, claim.aggregate_id): claim.scope for claim in slipped}
    if not waiting:
        return set()
    read = " or ".join(window_of(name, 0, cut) for name, (_, cut) in elsewhere.items())
    rows = rows_of(
        connection,
        f"""select distinct aggregate_type, aggregate_id from {EVENTS}
            where ({read}) and suffix(event_type, '{RESTATED}') and directory_epoch > {FIRST_DIRECTORY_EPOCH}
                and aggregate_id in (select unnest($ids::VARCHAR[]))""",
        {"ids": sorted({aggregate_id for _, aggregate_id in waiting})},
    )
    return {waiting[row] for row in rows if row in waiting}
