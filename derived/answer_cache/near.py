"""A few hundred hot answers in the process itself.

Belongs here: holding them, and dropping them when told to. Does not belong here: how a server tells
(`valkey_notices.py`).

They are held only while the process is told what changes: when it cannot be sure any more, it drops all of them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from derived.answer_cache.port import AnswerKey, Held

ANSWERS_MAX = 300
HELD_SECONDS_MAX = 5.0
"""An answer is asked for again after this time, whatever was told."""
REMEMBERED_DROPS = 1_000


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer, and when this process took it over."""

    held: Held
    kept_at: float


class NearAnswers:
    """Answers by key, the least recently used ones leave first. Thread safe."""

    def __init__(
        self,
        *,
        answers_max: int = ANSWERS_MAX,
        held_seconds_max: float = HELD_SECONDS_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers_max = answers_max
        self._held_seconds_max = held_seconds_max
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[AnswerKey, Kept] = OrderedDict()
        self._is_told = False
        self._drop_count = 0
        self._drops: deque[tuple[str, str]] = deque(maxlen=REMEMBERED_DROPS)

    def get(self, key: AnswerKey) -> Held | None:
        """Return an answer with its present age."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            seconds = self._monotonic() - kept.kept_at
            if seconds > self._held_seconds_max:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
        held = kept.held
        return Held(body=held.body, cut=held.cut, age_seconds=held.age_seconds + seconds, tags=held.tags)

    def ticket(self) -> int:
        """Return a number to be taken before the server is asked, and given to `put` with its answer."""
        with self._lock:
            return self._drop_count

    def put(self, key: AnswerKey, held: Held, ticket: int) -> None:
        """Hold an answer, unless it may have been dropped since the ticket was taken."""
        with self._lock:
            missed = self._drop_count - ticket
            if not self._is_told or missed > len(self._drops):
                return
            named = {(key.pod, name) for name in (*held.tags, str(key))}
            if any(self._drops[-place] in named for place in range(1, missed + 1)):
                return
            self._kept[key] = Kept(held=held, kept_at=self._monotonic())
            self._kept.move_to_end(key)
            if len(self._kept) > self._answers_max:
                self._kept.popitem(last=False)

    def drop(self, pod: str, tags: Iterable[str]) -> None:
        """Drop the answers of a pod that have one of these tags."""
        told = {(pod, tag) for tag in tags}
        with self._lock:
            self._drop_count += len(told)
            self._drops.extend(told)
            gone = [key for key, kept in self._kept.items() if any((key.pod, tag) in told for tag in kept.held.tags)]
            for key in gone:
                del self._kept[key]

    def drop_answer(self, key: AnswerKey) -> None:
        """Drop one answer: the server has another one, or none."""
        with self._lock:
            self._drop_count += 1
            self._drops.append((key.pod, str(key)))
            self._kept.pop(key, None)

    def drop_all(self) -> None:
        """Drop everything: nobody knows what has changed."""
        with self._lock:
            self._drop_count += 1
            self._drops.clear()
            self._kept.clear()

    def begin_being_told(self) -> None:
        """Hold answers from now on."""
        self.drop_all()
        with self._lock:
            self._is_told = True

    def end_being_told(self) -> None:
        """Drop everything, and hold nothing until the process is told again."""
        with self._lock:
            self._is_told = False
        self.drop_all()

    def __len__(self) -> int:
        """Return how many answers are held."""
        with self._lock:
            return len(self._kept)
