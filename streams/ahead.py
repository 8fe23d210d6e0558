"""Prefetching: a thread reads the next batches while the caller processes the present one.

Belongs here: the prefetching, for any source that releases Python's global interpreter lock while it reads. Does not
belong here: what is read, and how it is processed.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Generator, Iterator

import pyarrow as pa

SMALL_BATCH_ROWS = 2_000
PREFETCHED_BATCHES = 3


def ahead(batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
    """Yield `batches`; a thread prefetches them unless the first one has fewer than SMALL_BATCH_ROWS rows.

    The caller must not use the connection behind `batches` until the iterator has ended or is closed.
    """
    first = next(batches, None)
    if first is None:
        return
    if first.num_rows < SMALL_BATCH_ROWS:
        yield from itertools.chain([first], batches)
        return
    yield first
    yield from _prefetched(batches)


def _prefetched(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    ready: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
    given_up = threading.Event()

    def put(item: pa.RecordBatch | BaseException | None) -> bool:
        while not given_up.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(None)
        except BaseException as error:  # the reader of the queue raises it
            put(error)

    thread = threading.Thread(target=read, name="reads-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        given_up.set()
        thread.join()
