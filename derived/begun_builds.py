"""Builds of the warehouse that have begun and are not complete: from which cut on they read events.

Belongs here: that look. Does not belong here: recording builds, and which of them are complete (`derived/builds.py`).
"""

from __future__ import annotations

import duckdb

from derived.builds import COMPLETIONS, CUT_VECTORS

BEGUN = f"""
select pod, min(since_cut) from {CUT_VECTORS}
where build_number > (select max(build_number) from {CUT_VECTORS} semi join {COMPLETIONS} using (build_id))
group by pod
"""


def begun_since(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return pod -> the cut after which builds read events that have begun since the newest complete one.

    There must be a complete build. A build that was interrupted counts, too: its rows stay until the next one.
    """
    return {str(pod): int(cut) for pod, cut in connection.execute(BEGUN).fetchall()}
