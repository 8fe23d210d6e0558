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

from contracts.errors import PropagationError
from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.search.documents import PRODUCTS, ROOTS
from derived.search.folders import PodFolder, base_folder
from derived.search.positions import Bookkeeping, rows_of_kind
from derived.search.projection import NAME
from derived.search.schema import SCHEMA, open_any
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
    """Products in the index; 0 if there is none."""
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
    older, current = folder.older(), folder.read_from()
    searcher = None if current is None else open_any(current).searcher()
    return Outlook(
        pod=pod,
        schema=SCHEMA if older is None else older.path.parent.name,
        products=len(rows_of_kind(searcher, PRODUCTS.aggregate_type)),
        cut=floor_cut({number: at for number, (_, at) in Bookkeeping(searcher).stored().items()}),
        generation="" if current is None else current.name,
    )


def reindex(
    settings: Settings, pod: str, open_lake: Callable[[], duckdb.DuckDBPyConnection] | None = None
) -> Reindexed:
    """Build a new index of a pod and make it the current one. After an error the old one stays the current one.

    An index without a position takes the lake's: the log may not reach back any more.
    """
    folder = PodFolder(base_folder(settings), pod)
    if (older := folder.older()) is not None:
        return _built(settings, folder, books_of(older), open_lake, removed=())
    old = PodWriting(folder)
    old.lock()
    try:
        return _built(settings, folder, old.books, open_lake, removed=tuple(folder.remove_older()))
    finally:
        old.abandon()


def upgrade(settings: Settings, pod: str) -> Reindexed | None:
    """Build the index of the present version of the schema if the pod has only an older one; None: nothing was to do.

    For the consumer before it begins. Until the switch shoppers search in the older index; the next start removes it.
    """
    folder = PodFolder(base_folder(settings), pod)
    if folder.older() is not None:
        return reindex(settings, pod)
    folder.remove_versions()
    return None


def books_of(older: PodFolder) -> Bookkeeping:
    """Return what an index of a readable version holds besides rows."""
    found = older.current()
    return Bookkeeping(None if found is None else open_any(found).searcher())


def _built(
    settings: Settings,
    folder: PodFolder,
    books: Bookkeeping,
    open_lake: Callable[[], duckdb.DuckDBPyConnection] | None,
    *,
    removed: tuple[str, ...],
) -> Reindexed:
    """Build a generation that stands where `books` do, and make it the current one."""
    pod, current, generation = folder.pod, folder.current(), folder.next()
    store = SearchStore(base_folder(settings), generations={pod: generation})
    try:
        with store.transaction() as session:
            session.take_over(pod, books)
            if folder.current() != current:
                raise PropagationError(f"Another has just built the search index of {pod}; look at it again.")
        view = KeyedProjection(name=NAME, roots=ROOTS, store=store, open_lake=open_lake or lake_opener(settings))
        is_new = all(at == START for _, at in books.stored().values())
        done = view.rebuild_all(pod, is_lake_position_taken=is_new)
        folder.switch(generation)
    except BaseException:
        if folder.current() != generation:
            shutil.rmtree(generation, ignore_errors=True)
        raise
    return Reindexed(
        pod=pod,
        generation=generation.name,
        aggregates=done.aggregates,
        cut=floor_cut(done.position),
        removed=removed,
    )
