"""A new index beside the old one, and the switch to it: for another version of the schema, or for a damaged folder.

The consumer of the pod stands still meanwhile, because this holds its lock: the index is late by as long as building
takes, and shoppers search in the old one. The new index is built from the lake as of exactly the old one's positions,
so nothing that was found is missing after the switch. What the consumer has parked is judged again.

Belongs here: building and switching. Does not belong here: making some documents right (`KeyedProjection.rebuild`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.search.documents import PRODUCTS, ROOTS
from derived.search.folders import PodFolder, base_folder
from derived.search.projection import NAME
from derived.search.schema import SCHEMA
from derived.search.store import SearchStore
from derived.search.writing import PodWriting
from streams.projection import START
from streams.step_planning import floor_cut

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a reindexing of a pod would replace."""

    pod: str
    schema: str
    products: int
    """Products in the present index of this version of the schema; 0 if there is none."""
    cut: int
    """The cut up to which it has everything."""
    generation: str
    """The folder of the present index; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class Reindexed:
    """What a reindexing of a pod has done."""

    pod: str
    generation: str
    aggregates: int
    cut: int
    removed: tuple[str, ...]
    """Earlier generations that were removed; the one before stays, because it may still be read."""


def outlook(settings: Settings, pod: str) -> Outlook:
    """Return what a reindexing would replace; it changes nothing."""
    folder = PodFolder(base_folder(settings), pod)
    current = folder.current()
    present = PodWriting(folder)
    return Outlook(
        pod=pod,
        schema=SCHEMA,
        products=len(present.keys(PRODUCTS)),
        cut=floor_cut({number: at for number, (_, at) in present.books.stored().items()}),
        generation="" if current is None else current.name,
    )


def reindex(
    settings: Settings, pod: str, open_lake: Callable[[], duckdb.DuckDBPyConnection] | None = None
) -> Reindexed:
    """Build a new index of a pod and make it the current one. After an error the old one stays the current one.

    An index without a position takes the lake's: the log may not reach back any more.
    """
    folder = PodFolder(base_folder(settings), pod)
    old = PodWriting(folder)
    old.lock()
    removed = tuple(folder.remove_older())
    generation = folder.next()
    try:
        store = SearchStore(base_folder(settings), generations={pod: generation})
        with store.transaction() as session:
            session.take_over(pod, old.books)
        view = KeyedProjection(name=NAME, roots=ROOTS, store=store, open_lake=open_lake or lake_opener(settings))
        is_new = all(at == START for _, at in old.books.stored().values())
        done = view.rebuild_all(pod, is_lake_position_taken=is_new)
        folder.switch(generation)
    except BaseException:
        shutil.rmtree(generation, ignore_errors=True)
        raise
    finally:
        old.abandon()
    return Reindexed(
        pod=pod,
        generation=generation.name,
        aggregates=done.aggregates,
        cut=floor_cut(done.position),
        removed=removed,
    )
