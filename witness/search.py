"""The witness of the search index: it sees a commit that its writer has not announced.

Whoever of ours commits to a pod's index says so beside it, before and after, with the digest of the engine's list of
segments (`derived/search/announcing.py`). A list with another digest is of a stranger's commit, or the files were set
back. Ours also says if it found such a list before it. Belongs here: the look at one pod's index. Does not belong here:
where the index is (handed in), comparing.

What it cannot see: a commit that is made while ours is under way, the first of two between two of ours, and what is
changed in files that the list names.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contracts.announcements import INDEX_COMMITS
from contracts.ownership import SEARCH
from contracts.sightings import Sighting, SightingKind
from reconcile.connections import Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from witness.watching import Look

NAME = "search"
SEGMENTS = "meta.json"
"""The engine's list of segments: every commit replaces it."""
COMMIT_SECONDS_MAX = 30.0
"""A commit of ours that is under way for longer was killed; until the next one, nothing can be told."""


@dataclass(kw_only=True)
class SearchWitness:
    """Looks at one pod's index."""

    pod: str
    control_dsn: str
    folder: Callable[[], Path | None]
    """Returns the folder of the current index; None: there is none."""
    name: str = NAME
    interval_seconds: float = 0.5
    _kept: str = ""
    """The position that this process has stored last, so that nothing is asked where nothing has changed."""
    _under_way_since: float | None = None
    _connections: Connections = field(default_factory=Connections)

    def look_once(self) -> Look:
        """Look at the list of segments, and store what is seen with the position."""
        folder = self.folder()
        if folder is None or not (folder / SEGMENTS).is_file():
            return Look(sightings=0, proven_seconds_ago=0.0)
        # Announced before and after: what is read between two equal announcements belongs to them.
        before, digest, after = _announced(folder), digest_of(folder), _announced(folder)
        if before != after or before is None:
            return Look(sightings=0, proven_seconds_ago=0.0)
        if before.is_under_way:
            return Look(sightings=0, proven_seconds_ago=0.0, trouble=self._waited())
        self._under_way_since = None
        found = digest if digest != before.digest else ""
        position = f"{folder.name} {found or before.digest} {before.stranger}"
        if position == self._kept:
            return Look(sightings=0, proven_seconds_ago=0.0)
        control = self._connections.to(self.control_dsn)
        with control.transaction():
            known = kept_position(control, self.name, self.pod)
            seen = {found, before.stranger} - {"", *known.split(" ")} if known != position else set[str]()
            count = keep_sightings(control, [self._sighting(folder, one) for one in sorted(seen)])
            if known != position:
                keep_position(control, self.name, self.pod, position)
        self._kept = position
        return Look(sightings=count, proven_seconds_ago=0.0)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _waited(self) -> str:
        now = time.monotonic()
        self._under_way_since = self._under_way_since or now
        if now - self._under_way_since <= COMMIT_SECONDS_MAX:
            return ""
        return f"A commit to the index of {self.pod} was announced and did not end; its consumer ends it."

    def _sighting(self, folder: Path, digest: str) -> Sighting:
        return Sighting(
            witness=self.name,
            kind=SightingKind.UNANNOUNCED,
            pod=self.pod,
            copy=SEARCH.name,
            place=f"{folder.name}/{SEGMENTS}",
            what=f"The search index of {self.pod} has a commit that its writer has not made.",
            transaction=f"{folder.name} {digest}",
        )


@dataclass(frozen=True, kw_only=True)
class _Announced:
    """What the writer says beside its index."""

    digest: str
    is_under_way: bool
    stranger: str
    """The list that this writer found, and that no writer had announced; empty: none was ever found."""


def digest_of(folder: Path) -> str:
    """Return the digest of an index's list of segments."""
    return hashlib.sha256((folder / SEGMENTS).read_bytes()).hexdigest()


def _announced(folder: Path) -> _Announced | None:
    """Return what was announced; None: nothing yet, or it is being written."""
    try:
        said = json.loads((folder / INDEX_COMMITS).read_bytes())
        return _Announced(
            digest=str(said["digest"]),
            is_under_way=bool(said["is_under_way"]),
            stranger=str(said.get("stranger", "")),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
