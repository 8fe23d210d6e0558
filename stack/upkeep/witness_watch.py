"""Watches the witnesses: one that has not proven for a minute that it sees is an outage, and people get an alert.

Belongs here: one look, and which finding people must know. Does not belong here: what a witness reports
(`reconcile/witness_states.py`), when people are told (`repair/alerts/outages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from repair.alerts.outages import About, Trouble
from stack.looking.witnesses import WitnessStatus

PATIENCE_SECONDS = 60.0
"""Longer than the worker needs to start and to see its first heartbeat."""


@dataclass(kw_only=True)
class WitnessWatch:
    """The newest look at the witnesses of one stack. What was found stays until the control database answers again."""

    read: Callable[[], Sequence[WitnessStatus]]
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once; raises the control database's error."""
        self.troubles = tuple(_trouble(one) for one in self.read() if one.complaint and one.is_set_up)


def _trouble(witness: WitnessStatus) -> Trouble:
    return Trouble(
        name=f"witness {witness.witness} of {witness.pod or 'all pods'}",
        sentence=witness.sentence.rstrip("."),
        when_down=("seeing at once who writes past the rules; comparisons find it later.",),
        look="tieout witnesses; witness.log in var/logs",
        about=About.WORKER,
        patience_seconds=PATIENCE_SECONDS,
    )
