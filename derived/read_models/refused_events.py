"""Events that the read models' database refuses because of their content.

Belongs here: finding them. Does not belong here: which errors are about a row's content (`derived/postgres_errors.py`),
what is done with these events (`derived/keyed/projection.py` parks them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from derived.keyed.decoding import LatestEvent, content
from derived.keyed.rows import Root
from derived.postgres_errors import is_of_content
from derived.read_models import row_attempts
from derived.read_models.row_statements import Cursor
from streams.projection import PoisonEventError
from streams.refusals import refused


def refused_events(
    cursor: Cursor, root: Root, events: Sequence[LatestEvent], clean: Callable[[Exception], str]
) -> list[PoisonEventError]:
    """Write the events that the database accepts; return the others with its reasons. All must be readable.

    Some values cannot even be staged, e.g. a number that is too large for its column: these are found by bisection.
    What the tables themselves refuse is found in one round trip. `clean` removes secrets from an error's text, because
    the text is stored. An error that is not about content is raised unchanged.
    """
    if not events:
        return []

    def refusal(some: Sequence[LatestEvent]) -> str | None:
        try:
            with cursor.connection.transaction():
                row_attempts.stage(cursor, root, content(root, some))
        except (psycopg.Error, UnicodeError) as error:
            if is_of_content(error):
                return clean(error)
            raise
        return None

    row_attempts.prepare(cursor, root)
    # Otherwise a deferred constraint would be checked at the commit, and refuse all events together.
    cursor.execute("set constraints all immediate")
    reasons = {event[:2]: reason for event, reason in refused(events, refusal)}
    for key, message in row_attempts.write_staged(cursor, root).items():
        reasons[key] = clean(psycopg.DataError(message))
    return [
        PoisonEventError(event.event_id, f"its values cannot be stored: {reasons[event[:2]]}.")
        for event in events
        if event[:2] in reasons
    ]
