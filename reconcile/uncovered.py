"""The stored tables of the copies that no comparison reads column by column, and why.

Every column of every other stored table of a copy is read by a pair; a test enumerates them in the stores themselves,
changes a value in each, and looks whether it is found. Belongs here: the exceptions. Does not belong here: the pairs
(`reconcile/pairs.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

UNCOVERED: Mapping[str, str] = {
    "read_models.positions": (
        "How far a view is. Rows are compared as of its cuts, so a wrong cut shows in the rows, as a cut that does not "
        "exist, or as a gap (`log_positions`); epoch and time of a position are only shown. A witness sees who writes "
        "it."
    ),
    "read_models.parked_events": (
        "Events that a view could not apply: their aggregates are late, and after a while overdue. A witness sees who "
        "writes it."
    ),
    "read_models.skipped_events": "What a person decided to pass over, as evidence. A witness sees who writes it.",
    "read_models.migrations": "Which migrations have run: it says nothing of any fact.",
    "read_models.sum_parts": "Which sums the database keeps itself: a wrong one shows in the sums.",
    "raw.fence_*": "How far the lake is in a pod: a wrong cut shows as events that are missing, or as a gap.",
    "raw.cuts": "Which cuts the lake has completely, and when they were registered, by which reports are dated.",
    "raw.parked": "Events that the lake could not take: their aggregates are late, and after a while overdue.",
    "raw.epochs": "Which epochs were opened where; the databases have the same in `oltp.epochs`.",
    "raw.retracted_events": "Evidence of what a database lost when it was restored; read by people only.",
    "raw.retracted_cuts": "Evidence of what a database lost when it was restored; read by people only.",
    "builds.*": (
        "Which cuts each build stood at, and what it left out: a wrong record shows in what the next build makes, and "
        "in the stored tables as rows that are missing or left over."
    ),
}
"""Table with its schema, or a pattern of it -> why its columns are not compared."""


def is_uncovered(table: str) -> bool:
    """Return whether a table, named with its schema, is one of them."""
    return any(fnmatchcase(table, pattern) for pattern in UNCOVERED)
