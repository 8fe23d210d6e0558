"""The witness of a Valkey server that serves shoppers: it sees within a second that the server is another, or emptied.

The log's server has a witness of its own (`witness/log.py`), because its entries have numbers. Carts and cached answers
have none: who changes a value there is not seen, and comparisons find it. Belongs here: the look at one server. Does
not belong here: asking it (its adapter, which is handed in), comparing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from contracts.sightings import Sighting, SightingKind
from contracts.text import counted
from contracts.valkey import ServerLook
from reconcile.connections import Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from witness.watching import Look


@dataclass(kw_only=True)
class ServerWitness:
    """Looks at one server, for all pods."""

    name: str
    copy: str
    """The copy that is on the server, and is compared completely after a sighting."""
    control_dsn: str
    ask: Callable[[str], ServerLook]
    """Writes these words where they are read again, and returns what the server says of itself."""
    let_go: Callable[[], None]
    pod: str = ""
    interval_seconds: float = 0.5
    _kept: str = ""
    """The position that this process has stored last, so that nothing is asked where nothing has changed."""
    _connections: Connections = field(default_factory=Connections)

    def look_once(self) -> Look:
        """Look, and store what is seen with the position."""
        said, began = secrets.token_hex(16), time.monotonic()
        seen = self.ask(said)
        proven = time.monotonic() - began if seen.heard == said else None
        if _position(seen) == self._kept:
            return Look(sightings=0, proven_seconds_ago=proven)
        control = self._connections.to(self.control_dsn)
        with control.transaction():
            stored = kept_position(control, self.name, self.pod)
            found = [] if stored in ("", _position(seen)) else [self._sighting(stored, seen)]
            count = keep_sightings(control, found)
            if stored != _position(seen):
                keep_position(control, self.name, self.pod, _position(seen))
        self._kept = _position(seen)
        return Look(sightings=count, proven_seconds_ago=proven)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
        self.let_go()

    def _sighting(self, stored: str, seen: ServerLook) -> Sighting:
        """Return what asks to compare all that is on the server. The counters of another run begin anew."""
        run, _, emptied = stored.partition(" ")
        held = counted(seen.keys, "key")
        if run != seen.run_id:
            what = f"The server of the {self.copy.replace('_', ' ')} was started anew, with {held}."
        else:
            what = (
                f"The server of the {self.copy.replace('_', ' ')} was emptied or replaced: such commands were counted "
                f"{emptied} times before, and {seen.emptied} times now; it has {held}."
            )
        return Sighting(
            witness=self.name,
            kind=SightingKind.LOST,
            pod="",
            copy=self.copy,
            place="server",
            what=what,
            transaction=f"run {seen.run_id}, {seen.emptied} times",
        )


def _position(seen: ServerLook) -> str:
    return f"{seen.run_id} {seen.emptied}"
