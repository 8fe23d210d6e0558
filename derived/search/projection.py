"""The search index as a projection of the log. Belongs here: building it, with its declared name. Does not belong here:
how it applies and rebuilds (`derived/keyed/projection.py`), its store (`store.py`)."""

from __future__ import annotations

from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.search.documents import ROOTS
from derived.search.folders import base_folder
from derived.search.store import SearchStore

NAME = "search"


def build(settings: Settings) -> KeyedProjection:
    """Return the projection of these settings; opens an index at first use."""
    store = SearchStore(base_folder(settings))
    return KeyedProjection(name=NAME, roots=ROOTS, store=store, open_lake=lake_opener(settings))


def prepare(settings: Settings, pod: str) -> None:
    """Build the pod's index anew if it is of an older version of the schema; for its consumer, before it begins."""
    from derived.search.reindexing import upgrade

    upgrade(settings, pod)
