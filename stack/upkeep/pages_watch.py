"""Watches Dagster's pages: when they cannot be used for minutes although their processes run, people get an alert.

A code location in error runs no schedule, so Dagster compares, repairs and builds nothing until a person corrects it.
Belongs here: one look, and which finding people must know. Does not belong here: how we ask Dagster
(`stack/processes/dagster_pages.py`), when people are told (`repair/alerts/outages.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from repair.alerts.outages import About, Trouble
from stack.looking.servers import WITHOUT_DAGSTER

PATIENCE_SECONDS = 300.0
"""Longer than the pages need to start on a busy machine."""


@dataclass(kw_only=True)
class PagesWatch:
    """The newest look at the pages of one stack; `missing` returns why they cannot be used."""

    missing: Callable[[], str]
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once; never raises."""
        found = self.missing()
        self.troubles = (_trouble(found),) if found else ()


def _trouble(missing: str) -> Trouble:
    return Trouble(
        name="Dagster's pages",
        sentence=f"Dagster's pages cannot be used: {missing}",
        when_down=(WITHOUT_DAGSTER,),
        look="tieout status; the named log in var/logs",
        runbook="docs/runbooks/servers.md, number 5",
        about=About.WORKER,
        patience_seconds=PATIENCE_SECONDS,
    )
