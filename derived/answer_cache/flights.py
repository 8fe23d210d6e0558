"""Within a process, one thread waits for an answer at the cache, and the others wait for that thread.

Belongs here: who asks again, by key. Does not belong here: asking (`reading.py`). Else a thousand waiting threads would
ask the server a thousand times as often as one, and each over a connection of its own.
"""

from __future__ import annotations

import threading

from derived.answer_cache.port import AnswerKey


class Flights:
    """The keys that a thread of this process loads or waits for. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._landings: dict[AnswerKey, threading.Event] = {}

    def join(self, key: AnswerKey) -> threading.Event | None:
        """Return what to wait for; None: the caller is the first one, and must call `land` in the end."""
        with self._lock:
            if (landing := self._landings.get(key)) is not None:
                return landing
            self._landings[key] = threading.Event()
            return None

    def land(self, key: AnswerKey) -> None:
        """Let those who wait ask again."""
        with self._lock:
            self._landings.pop(key).set()
