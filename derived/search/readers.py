"""Readers of the indexes: one per pod and process, which look for a new commit or generation every 100 ms.

Belongs here: which commit a question sees, and how old it is. Does not belong here: questions (`asking.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from tantivy import Index, Searcher

from contracts.errors import PropagationError
from derived.search.folders import PodFolder
from derived.search.positions import POSITION, StoredPosition, rows_of_kind
from derived.search.schema import open_any
from derived.search.vocabulary import Vocabularies

RELOAD_SECONDS = 0.1
"""How long a reader stays at a commit if nobody needs a newer one."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One commit of a pod's index: everything that is asked of it is from the same commit."""

    pod: str
    searcher: Searcher
    vocabularies: Vocabularies
    applied_cut: int
    """Every event up to this cut is in it; some events of later cuts may be in it, too."""
    data_at: datetime | None
    """When the newest applied cut was registered; None if nothing was applied."""
    epoch: str
    """Of the applied cuts; empty if nothing was applied."""


class PodReader:
    """The reader of one pod's index; any number of threads may use it."""

    def __init__(self, base: Path, pod: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = PodFolder(base, pod)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._generation: Path | None = None
        self._index: Index | None = None
        self._vocabularies = Vocabularies()
        self._seen: Seen | None = None
        self._looked_at = float("-inf")

    def seen(self, *, cut_min: int = 0) -> Seen:
        """Return the newest commit known; look again if it is older than RELOAD_SECONDS or has not applied `cut_min`.

        Raises PropagationError if the pod has no index. A caller that needs `cut_min` looks at `applied_cut`.
        """
        with self._lock:
            seen = self._seen
            is_old = self._monotonic() - self._looked_at >= RELOAD_SECONDS
            if seen is None or is_old or seen.applied_cut < cut_min:
                seen = self._seen = self._look()
                self._looked_at = self._monotonic()
            return seen

    def _look(self) -> Seen:
        generation = self._folder.read_from()
        if generation is None or not generation.is_dir():
            raise PropagationError(f"Pod {self._folder.pod} has no search index yet; is its consumer running?")
        if self._index is None or generation != self._generation:
            self._index, self._generation = open_any(generation), generation
            self._vocabularies = Vocabularies()
        self._index.reload()
        searcher = self._index.searcher()
        positions = [
            one
            for row in rows_of_kind(searcher, POSITION)
            for one in msgspec.json.decode(row, type=list[StoredPosition])
        ]
        return Seen(
            pod=self._folder.pod,
            searcher=searcher,
            vocabularies=self._vocabularies,
            applied_cut=min((one.cut for one in positions), default=0),
            data_at=max((one.data_at for one in positions if one.data_at), default=None),
            epoch=next((one.epoch for one in positions if one.epoch), ""),
        )
