"""A builder's process that a worker keeps, so that only its first build waits for dbt.

Starting the process costs about seven seconds of processor time: dbt's import, and reading its project. It is started
anew when it has ended, when the project's files have changed, and when it has grown too large.

Belongs here: keeping that process, and taking turns with it. Does not belong here: the process itself
(`stack/composition/builder.py`), what a build is (`derived/warehouse.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from contracts.settings import Settings
from derived.warehouse import project_changed_at
from stack.composition.builder import WarehouseBuilder, warm_builder

LARGE_MB = 900.0
"""Above this resident memory the process is started anew before its next build. A fresh one has about 250."""
CLOSE_SECONDS = 1.0
BYTES_PER_MB = 1_000_000


@dataclass(kw_only=True)
class Asked:
    """One build that somebody waits for, and what became of it."""

    since: Mapping[str, int]
    is_full: bool
    tables: tuple[str, ...]
    """Empty: everything."""
    is_over: bool = False
    cuts: Mapping[str, int] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(kw_only=True)
class KeptBuilder:
    """A warm builder for all threads of a process, one after the other. `close` ends its process."""

    settings: Settings
    start: Callable[[Settings], AbstractContextManager[WarehouseBuilder]] = warm_builder
    project_changed_at: Callable[[], float] = project_changed_at
    _stack: ExitStack = field(default_factory=ExitStack)
    _builder: WarehouseBuilder | None = None
    _ended_cpu: float = 0.0
    _running_cpu: float = 0.0
    """Processor seconds of the processes that have ended, and of the one that runs, as last known."""
    _project_at: float = 0.0
    """When the project's files had changed last, as the process has read them."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _waiting: list[Asked] = field(default_factory=list)
    _waiting_lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self) -> None:
        """Start the process, unless it runs; it prepares itself meanwhile."""
        if self._lock.acquire(blocking=False):  # who builds now has started it
            try:
                self._ready()
            finally:
                self._lock.release()

    def build_to(self, cuts: Mapping[str, int]) -> Mapping[str, int]:
        """Build to these cuts; raises what `WarehouseBuilder.build_to` raises."""
        with self._turn() as builder:
            return builder.build_to(cuts)

    def build_again(self, since: Mapping[str, int], is_full: bool, tables: Sequence[str]) -> Mapping[str, int]:
        """Build again from these cuts on, or everything; raises what `WarehouseBuilder.build_again` raises.

        All that wait for their turn get one build of what they ask for together.
        """
        mine = Asked(since=since, is_full=is_full, tables=tuple(tables))
        with self._waiting_lock:
            self._waiting.append(mine)
        try:
            with self._turn() as builder:
                if not mine.is_over:
                    with self._waiting_lock:
                        together = list(self._waiting)
                    _build_together(builder, together)
        finally:
            with self._waiting_lock:
                self._waiting = [one for one in self._waiting if one is not mine and not one.is_over]
        if mine.error is not None:
            raise mine.error
        return mine.cuts

    def cpu_seconds(self) -> float:
        """Return the processor time of all processes that have built so far, of an ended one as it was last known."""
        known = self._builder
        if known is not None and known.child.poll() is None:
            with suppress(psutil.Error):  # it has just ended
                times = psutil.Process(known.child.pid).cpu_times()
                self._running_cpu = float(times.user + times.system + times.children_user + times.children_system)
        return self._ended_cpu + self._running_cpu

    def close(self) -> None:
        """End the process. One that builds ends by itself when this process does, because its input ends."""
        if self._lock.acquire(timeout=CLOSE_SECONDS):
            try:
                self._end()
            finally:
                self._lock.release()

    @contextmanager
    def _turn(self) -> Iterator[WarehouseBuilder]:
        with self._lock:
            builder = self._ready()
            # Somebody else may have set the warehouse back since this process built, so each turn builds anew.
            builder.built = None
            try:
                yield builder
            except BaseException:
                if builder.is_building or builder.child.poll() is not None:
                    self._end()  # the answer of a build that was interrupted must not answer the next one
                raise

    def _ready(self) -> WarehouseBuilder:
        changed_at = self.project_changed_at()
        known = self._builder
        if known is not None and (changed_at != self._project_at or _is_spent(known)):
            self._end()
        if self._builder is None:
            self._builder = self._stack.enter_context(self.start(self.settings))
            self._project_at = changed_at
        return self._builder

    def _end(self) -> None:
        self._ended_cpu, self._running_cpu = self.cpu_seconds(), 0.0
        self._builder = None
        self._stack.close()


def joined(asked: Sequence[Asked]) -> Asked:
    """Return the build that does all of these: from the lowest cut of each pod on, of all tables that one names.

    Of a pod that one of them does not name, a build adds only what is new; a lower cut of another one includes that.
    """
    since: dict[str, int] = {}
    for one in asked:
        for pod, cut in one.since.items():
            since[pod] = min(cut, since.get(pod, cut))
    is_full, is_of_tables = any(one.is_full for one in asked), all(one.tables for one in asked)
    tables = sorted({table for one in asked for table in one.tables}) if is_of_tables and not is_full else []
    return Asked(since={} if is_full else since, is_full=is_full, tables=tuple(tables))


def _build_together(builder: WarehouseBuilder, asked: Sequence[Asked]) -> None:
    """Do one build for all of these; each gets its result, or its error."""
    order = joined(asked)
    try:
        cuts = builder.build_again(since=order.since, full_refresh=order.is_full, tables=order.tables).cuts
    except Exception as error:
        for one in asked:
            one.error, one.is_over = error, True
        raise
    for one in asked:
        one.cuts, one.is_over = cuts, True


def _is_spent(builder: WarehouseBuilder) -> bool:
    """Return whether the process has ended, or is too large."""
    return builder.child.poll() is not None or _resident_mb(builder.child.pid) > LARGE_MB


def _resident_mb(process_id: int) -> float:
    try:
        return float(psutil.Process(process_id).memory_info().rss / BYTES_PER_MB)
    except psutil.Error:  # it has just ended, which the next turn sees
        return 0.0
