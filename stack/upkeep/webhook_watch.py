"""Watches merchants' endpoints: people get an alert of those that are parked, or full.

Belongs here: one look, and which finding people must know. Does not belong here: parking (`derived/webhooks/`), how far
an endpoint is (`stack/composition/webhooks.py`), when people are told (`repair/alerts/outages.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.settings import Settings
from derived.webhooks.standing import stopped_endpoints
from repair.alerts.outages import About, Trouble


@dataclass(kw_only=True)
class WebhookWatch:
    """The newest look at the endpoints of one stack. What was found stays until the database answers again."""

    settings: Settings
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once; raises the error of the control database."""
        sentence = stopped_endpoints(self.settings.control_dsn)
        found = Trouble(
            name="webhooks",
            sentence=sentence.rstrip("."),
            when_down=("All other endpoints are told; what the stopped ones miss waits or can be replayed.",),
            look="tieout webhooks list",
            runbook="docs/runbooks/webhooks.md",
            about=About.WORKER,
            needs_person=True,
        )
        self.troubles = (found,) if sentence else ()
