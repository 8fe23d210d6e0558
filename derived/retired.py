"""Events that were written with a schema version after it was retired: some writer was not updated.

They are read like all other events. Belongs here: counting them in what a build adds. Does not belong here: which
versions are retired, and until when they may be written (`AggregateState.RETIRED`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import duckdb

from contracts.events import STATE_TYPES
from contracts.text import counted
from derived.lake_schema import EVENTS

WRITTEN_LATE = f"""
select count(*), max(recorded_at) from {EVENTS}
where aggregate_type = $aggregate_type and schema_version = $version
  and recorded_at >= $until::date + 1 and ({{window}})
"""


def retired_sentences(connection: duckdb.DuckDBPyConnection, windows: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return a sentence for every retired version that was used too late for events in the windows.

    `windows`: pod -> (after this cut, through this cut).
    """
    return list(_sentences(connection, windows))


def _sentences(connection: duckdb.DuckDBPyConnection, windows: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    parts: list[str] = []
    bound: dict[str, str | int] = {}
    for number, (pod, (since, cut)) in enumerate(sorted(windows.items())):
        parts.append(f"(pod = $pod{number} and cut > $since{number} and cut <= $cut{number})")
        bound |= {f"pod{number}": pod, f"since{number}": since, f"cut{number}": cut}
    query = WRITTEN_LATE.format(window=" or ".join(parts) or "false")
    for aggregate_type, state in STATE_TYPES.items():
        for version, until in state.RETIRED.items():
            values = {"aggregate_type": aggregate_type, "version": version, "until": until, **bound}
            ((events, last),) = connection.execute(query, values).fetchall()
            if events:
                yield (
                    f"{counted(events, 'event')} of {aggregate_type} came under schema version {version}, which was to "
                    f"be written until {until}, the last one on {last:%Y-%m-%d}: a writer of that version still runs."
                )
