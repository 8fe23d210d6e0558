"""One pod's index in a transaction: reading it with what the transaction has changed, and writing it.

The engine shows its own writer's changes only after the commit, so a transaction remembers which rows it wrote, by
order and digest. A writer holds a lock on the folder (flock), which ends with its process: a pod has one writer at a
time.

Belongs here: one index. Does not belong here: transactions over several pods, and the port (`store.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec
from tantivy import Document, Index, IndexWriter, Query, Searcher

from contracts.errors import PropagationError
from derived.keyed.rows import Root, RootRow
from derived.search import schema
from derived.search.announcing import announced
from derived.search.documents import document, key_of
from derived.search.folders import PodFolder
from derived.search.positions import MANY, POSITION, Bookkeeping, row_of
from derived.search.schema import open_index

WRITER_BYTES = 64_000_000
"""Memory in which a writer collects documents before it writes a segment."""
LOCK_SECONDS = 60.0
"""How long a writer waits for another one: a rebuild of the whole pod takes seconds."""
LOCK_LOOK_SECONDS = 0.02


class Stand(NamedTuple):
    """What stands under a key: by what it is newer or older than another row, and its content."""

    directory_epoch: int
    version: int
    epoch: str
    digest: str


class PodWriting:
    """One pod's index, for the length of a transaction."""

    def __init__(self, folder: PodFolder, generation: Path | None = None) -> None:
        self.pod = folder.pod
        self._folder = folder
        self._fixed = generation
        self._writer: IndexWriter | None = None
        self._generation: Path | None = None
        self._changed: dict[str, Stand | None] = {}
        self._emptied: dict[str, frozenset[str]] = {}
        """Type of an aggregate whose documents were all deleted -> keys that were kept."""
        found = generation or folder.current()
        self._index: Index | None = open_index(found) if found is not None else None
        self._read()

    def lock(self) -> None:
        """Begin to write. Raises PropagationError if another writes for too long."""
        if self._writer is not None:
            return
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            generation = self._fixed or self._folder.current_or_first()
            self._index, self._generation = open_index(generation), generation
            try:
                self._writer = self._index.writer(WRITER_BYTES, 1)
            except ValueError as error:
                if "LockBusy" not in str(error):
                    raise PropagationError(f"The search index of {self.pod} cannot be written: {error}") from None
                if time.monotonic() > deadline:
                    raise PropagationError(f"Another writes the search index of {self.pod}; try again later.") from None
                time.sleep(LOCK_LOOK_SECONDS)
                continue
            if self._fixed is None and self._folder.current() != generation:
                self._writer = None  # meanwhile another generation became the current one
                continue
            return self._read()

    def stand(self, root: Root, key: str) -> Stand | None:
        """Return what stands under a key, as this transaction sees it."""
        if key in self._changed:
            return self._changed[key]
        kept = self._emptied.get(root.aggregate_type)
        if kept is not None and key not in kept:
            return None
        row = self.row(key)
        return None if row is None else _stand(root, row)

    def row(self, key: str) -> bytes | None:
        """Return the row of a key as the last commit has it."""
        if self._searcher is None:
            return None
        query = Query.term_query(schema.schema(), schema.KEY, key, index_option="basic")
        hits = self._searcher.search(query, limit=1, count=False).hits
        return row_of(self._searcher.doc(hits[0][1])) if hits else None

    def put(self, root: Root, row: RootRow) -> None:
        """Write a row, whatever stands under its key. Raises OverflowError or ValueError if it cannot be stored."""
        key = key_of(root, row)
        self.replace(key, document(root, row), _stand(root, msgspec.json.encode(row)))

    def replace(self, key: str, made: Document, stand: Stand) -> None:
        """Write a document, whatever stands under its key."""
        writer = self._locked()
        writer.delete_documents_by_term(schema.KEY, key)
        writer.add_document(made)
        self._changed[key] = stand

    def remove(self, key: str) -> None:
        """Delete the document of a key."""
        self._locked().delete_documents_by_term(schema.KEY, key)
        self._changed[key] = None

    def empty(self, root: Root, except_keys: Collection[str]) -> int:
        """Delete all documents of a root but those of these keys; return how many."""
        gone = [key for key in self.keys(root) if key not in except_keys]
        if except_keys:
            for key in gone:
                self._locked().delete_documents_by_term(schema.KEY, key)
        else:
            self._locked().delete_documents_by_term(schema.KIND, root.aggregate_type)
        kept = frozenset(except_keys)
        self._changed = {key: stand for key, stand in self._changed.items() if key in kept or not _is_of(root, key)}
        self._emptied[root.aggregate_type] = kept
        return len(gone)

    def keys(self, root: Root) -> list[str]:
        """Return the keys of all documents of a root."""
        changed = {key: stand for key, stand in self._changed.items() if _is_of(root, key)}
        kept = self._emptied.get(root.aggregate_type)
        stored = (str(found.get_first(schema.KEY)) for found in self._documents(root))
        before = {key for key in stored if key not in changed and (kept is None or key in kept)}
        return sorted(before | {key for key, stand in changed.items() if stand is not None})

    def digest(self, root: Root) -> str:
        """Return a digest of all rows of a root."""
        digest = hashlib.md5(usedforsecurity=False)
        for key in self.keys(root):
            digest.update(f"{key}={self.stand(root, key)};".encode())
        return digest.hexdigest()

    def commit(self, *, is_announced: bool = True) -> None:
        """Make everything visible at once: rows, positions, parked and skipped events.

        `is_announced`: tell the witness that this commit is ours; only a damage on purpose does not.
        """
        if self._writer is None or self._generation is None:
            return
        with announced(self._generation) if is_announced else nullcontext():
            self._commit(self._writer)
        self._writer = None

    def _commit(self, writer: IndexWriter) -> None:
        documents = self.books.documents()
        for key in self._stored_books - documents.keys():
            writer.delete_documents_by_term(schema.KEY, key)
        for key in {POSITION} | (documents.keys() - self._stored_books):
            writer.delete_documents_by_term(schema.KEY, key)
            writer.add_document(documents[key])
        writer.commit()
        # The next writer may be of another process: segments are merged before the lock is let go.
        writer.wait_merging_threads()

    def abandon(self) -> None:
        """Let go of the lock; what was not committed is not there."""
        self._writer = None

    def _read(self) -> None:
        self._searcher: Searcher | None = None
        if self._index is not None:
            self._index.reload()
            self._searcher = self._index.searcher()
        self.books = Bookkeeping(self._searcher)
        self._stored_books = set(self.books.documents()) if self._searcher is not None else set()

    def _locked(self) -> IndexWriter:
        self.lock()
        assert self._writer is not None
        return self._writer

    def _documents(self, root: Root) -> list[Document]:
        if self._searcher is None:
            return []
        query = Query.term_query(schema.schema(), schema.KIND, root.aggregate_type, index_option="basic")
        hits = self._searcher.search(query, limit=MANY, count=False).hits
        return [self._searcher.doc(address) for _, address in hits]


def _stand(root: Root, row: bytes) -> Stand:
    digest = hashlib.md5(row, usedforsecurity=False).hexdigest()
    try:
        found = msgspec.json.decode(row, type=root.row_type)
    except msgspec.DecodeError:  # a damaged document: whatever comes is newer
        return Stand(0, 0, "", digest)
    return Stand(found.directory_epoch, found.version, found.epoch, digest)


def _is_of(root: Root, key: str) -> bool:
    return key.split("/", 2)[1] == root.aggregate_type
