"""The loop that witnesses share: each looks in its own thread, and what it says of itself goes to the control database.

A witness that is silent does not count as healthy. It proves by a heartbeat that it sees: it writes something to its
store, and must see it where it looks. Belongs here: what a witness is, and that loop. Does not belong here: what one
witness looks at (a module each), the state that is reported (`reconcile/witness_states.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg

from reconcile.connections import Connection, Connections
from reconcile.witness_states import report_failure, report_look

logger = logging.getLogger("tieout.witness")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look of a witness came to. The sightings are stored already, with the position that follows them."""

    sightings: int
    """How many sightings were stored that were not stored before."""
    proven_seconds_ago: float | None = None
    """How long ago the newest heartbeat was written that this look saw; None: it saw none, and what was proven stays.

    It is no moment, because the clocks of the store and of the control database may differ.
    """
    trouble: str = ""
    """One sentence for people when the witness looked, and cannot see; it holds no password."""


class Witness(Protocol):
    """One store, or one pod of it, that is looked at for writes past the rules."""

    @property
    def name(self) -> str:
        """Return the witness's name, as its sightings have it, e.g. `oltp` or `read_models`."""

    @property
    def pod(self) -> str:
        """Return the pod that it looks at; empty: all pods."""

    @property
    def interval_seconds(self) -> float:
        """Return how long it rests between two looks."""

    def look_once(self) -> Look:
        """Look at what is new, store the sightings and the position in one transaction, and write a heartbeat if due.

        After an error the next look begins where the last position was stored; no sighting is stored twice.
        """

    def close(self) -> None:
        """Close its connections."""


def watch(witnesses: Sequence[Witness], control_dsn: str, clean: Callable[[str], str], stop: threading.Event) -> None:
    """Let each witness look until `stop` is set. `clean` takes passwords out of a text.

    Each has a thread of its own, so that one that waits for a hanging server does not delay the others.
    """
    threads = [
        threading.Thread(target=_repeat, args=(witness, control_dsn, clean, stop), daemon=True) for witness in witnesses
    ]
    for thread in threads:
        thread.start()
    stop.wait()


def look_and_report(witness: Witness, control: Connection, clean: Callable[[str], str]) -> str:
    """Let a witness look once and report its state; return its trouble, empty when there is none."""
    try:
        look = witness.look_once()
    except Exception as error:  # any error: a witness goes on, and says what it could not see
        trouble = clean(f"{type(error).__name__}: {error}")
        report_failure(control, witness.name, witness.pod, trouble)
        return trouble
    report_look(control, witness.name, witness.pod, proven_seconds_ago=look.proven_seconds_ago, trouble=look.trouble)
    return look.trouble


def _repeat(witness: Witness, control_dsn: str, clean: Callable[[str], str], stop: threading.Event) -> None:
    last, connections = "", Connections()
    while not stop.is_set():
        try:
            trouble = look_and_report(witness, connections.to(control_dsn), clean)
        except psycopg.Error as error:
            # The control database does not answer: the state there grows old, and old is no health.
            trouble = clean(f"its state cannot be reported: {error}")
        if trouble and trouble != last:
            logger.warning("Witness %s %s cannot see, and tries again: %s", witness.name, witness.pod, trouble)
        last = trouble
        stop.wait(witness.interval_seconds)
