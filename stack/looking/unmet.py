"""Expectations of data quality that do not hold, for the status.

Belongs here: reading them. Does not belong here: judging them (`checks/expectations/`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.settings import Settings

# Not in the function: threads that import a package and one of its modules at the same time can block each other.
from repair.alerts.unmet import unmet


@dataclass(frozen=True, kw_only=True)
class UnmetStatus:
    """An expectation of data quality that does not hold."""

    suite: str
    pod: str
    expectation: str
    rows_found: int
    since: str
    page: str


def read_unmet(values: Settings) -> list[UnmetStatus]:
    """Return the expectations that do not hold, the oldest first."""
    return [
        UnmetStatus(
            suite=row.suite,
            pod=row.pod,
            expectation=row.expectation,
            rows_found=row.rows_found,
            since=row.first_seen_at.isoformat(),
            page=row.page,
        )
        for row in unmet(values.control_dsn)
    ]
