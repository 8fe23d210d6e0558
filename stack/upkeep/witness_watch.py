"""Watches the witnesses: one that has not proven for a minute that it sees is an outage, and people get an alert.

So is what they saw when nothing compares it for minutes.

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
    read_uncompared: Callable[[], str] = str
    """Returns why what witnesses saw does not count as compared in time; empty when it does."""
    troubles: tuple[Trouble, ...] = ()

    def look_once(self) -> None:
        """Look once; raises the control database's error."""
        blind = [_trouble(one) for one in self.read() if one.complaint and one.is_set_up]
        uncompared = self.read_uncompared()
        self.troubles = (*blind, *([_late(uncompared)] if uncompared else []))


def _trouble(witness: WitnessStatus) -> Trouble:
    return Trouble(
        name=f"witness {witness.witness} of {witness.pod or 'all pods'}",
        sentence=witness.sentence.rstrip("."),
        when_down=("seeing at once who writes past the rules; comparisons find it later.",),
        look="tieout witnesses; witness.log in var/logs",
        about=About.WORKER,
        patience_seconds=PATIENCE_SECONDS,
    )


def _late(sentence: str) -> Trouble:
    return Trouble(
        name="comparing what witnesses saw",
        sentence=sentence,
        when_down=("comparing by schedule; what was written past the rules is found later.",),
        look="tieout coverage; reconciler.log in var/logs",
        about=About.WORKER,
    )
