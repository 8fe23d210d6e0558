"""A pipeline that sends when somebody waits for an answer, and not with every statement.

    with buffered_pipeline(connection) as pipeline: ...

psycopg's own pipeline asks the socket with every statement whether it can send, and reads what has come: two or three
system calls each. A command has about ten statements and waits three times, so most of them are for nothing: measured,
they are a third of the client's processor time. Here a statement goes into libpq's buffer; libpq itself sends when the
buffer grows, and everything is sent before an answer is waited for.

The statement that inserts new aggregates has more bytes than psycopg remembers the placeholders of; it would look for
them in each execution, which takes 20 us. So we raise that limit.

Belongs here: these two changes of psycopg. Does not belong here: opening transactions (`oltp/commands/execute.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg import _queries

# Not public, like the pipeline's part below: a test says when another version of psycopg does this differently.
_queries.MAX_CACHED_STATEMENT_LENGTH = 16_384


@contextmanager
def buffered_pipeline(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Pipeline]:
    """Open a pipeline; leaving it sends what is left, and raises the first error, as psycopg's own does."""
    with connection.pipeline() as pipeline:
        # Not public: a test says when another version of psycopg does this differently.
        vars(pipeline)["_communicate_gen"] = partial(_buffer, pipeline)
        yield pipeline


def _buffer(pipeline: Any) -> Generator[Any, Any, None]:
    """Put the queued commands into libpq's buffer. Who fetches flushes it, and reads while it does."""
    while pipeline.command_queue:
        pipeline.command_queue.popleft()()
    yield from ()
