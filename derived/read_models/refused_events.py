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
from derived.read_models import row_statements
from derived.read_models.row_statements import Cursor
from streams.projection import PoisonEventError
from streams.refusals import refused


def refused_events(
    cursor: Cursor, root: Root, events: Sequence[LatestEvent], clean: Callable[[Exception], str]
) -> list[PoisonEventError]:
    """Write the events that the database accepts; return the others with its reasons. All must be readable.

    `clean` removes secrets from an error's text, because the text is stored. An error that is not about content is
    raised unchanged.
    """

    def refusal(some: Sequence[LatestEvent]) -> str | None:
        try:
            with cursor.connection.transaction():
                # Otherwise a deferred constraint would be checked at the commit, and refuse all events together.
                cursor.execute("set constraints all immediate")
                row_statements.write(cursor, root, content(root, some))
                row_statements.clear_staging(cursor, root)
        except (psycopg.Error, UnicodeError) as error:
            if is_of_content(error):
                return clean(error)
            raise
        return None

    return [
        PoisonEventError(event.event_id, f"its values cannot be stored: {reason}.")
        for event, reason in refused(events, refusal)
    ]
