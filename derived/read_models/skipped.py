"""Parked events that a person decided to skip permanently, with who, when and why: table `skipped_events`.

Belongs here: that table. Does not belong here: parked events (`positions.py`), who may decide it and what is shown
before (`cli/commands/parked.py`).
"""

from __future__ import annotations

from contracts.errors import NotFoundError
from derived.read_models.positions import Cursor

SKIP = """
    insert into read_models.skipped_events
    (projection, pod, aggregate_key, event_id, cut, event, error, reason, skipped_by)
    select projection, pod, aggregate_key, event_id, cut, event, error, %(reason)s, %(by)s
    from read_models.parked_events where projection = %(projection)s and pod = %(pod)s and event_id = %(event_id)s"""
UNPARK = """
    delete from read_models.parked_events
    where projection = %(projection)s and pod = %(pod)s and event_id = %(event_id)s"""
SKIPPED = "select event_id from read_models.skipped_events where projection = %s and pod = %s order by event_id"


def skip(cursor: Cursor, projection: str, pod: str, event_id: str, *, reason: str, by: str) -> None:
    """Skip a parked event; later events of its aggregate stay parked. NotFoundError if it is not parked any more."""
    values = {"projection": projection, "pod": pod, "event_id": event_id, "reason": reason, "by": by}
    cursor.execute(SKIP, values)
    if cursor.execute(UNPARK, values).rowcount == 0:
        raise NotFoundError(f"Event {event_id} is not parked in {projection} of {pod} any more; look at it again.")


def skipped_ids(cursor: Cursor, projection: str, pod: str) -> list[str]:
    """Return the ids of the skipped events of a pod."""
    return [event_id for (event_id,) in cursor.execute(SKIPPED, [projection, pod]).fetchall()]
