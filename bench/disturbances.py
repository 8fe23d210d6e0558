"""The disturbances during the comparisons of `bench/soak.py`: events that disturb a system but damage no data.

Belongs here: one function per disturbance; each runs in its own thread until the time is over. Does not belong here:
the comparisons and their evaluation.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing.connection import Connection

import psycopg

from contracts.errors import StackError
from contracts.settings import Settings
from stack.composition.builder import warm_builder
from stack.composition.damaging import process_id_of, stopped
from stack.composition.projections import PROJECTIONS

HOLD_SECONDS_MAX = 90.0
"""Seconds after which a stopped consumer continues, even if no comparison has ended."""
LOOK_SECONDS = 0.1
UPKEEP_SECONDS_MAX = 180.0
KEEP_SECONDS_MIN = 120
"""Seconds for which the lake's snapshots are kept, because a comparison's queries may take this long on a busy machine.
"""

TRANSACTION_SECONDS = "a transaction left open for"
RELAYS_KILLED = "relays killed"
CONSUMERS_STOPPED = "consumers stopped, for a comparison or longer"
REFRESHES = "warehouse built anew beside the comparisons"
COMPACTIONS = "compactions of the lake"
EVENTS_PRUNED = "events pruned from outboxes"
ENTRIES_TRIMMED = "entries trimmed from the log"
WANTED = (
    TRANSACTION_SECONDS,
    RELAYS_KILLED,
    CONSUMERS_STOPPED,
    REFRESHES,
    COMPACTIONS,
    EVENTS_PRUNED,
    ENTRIES_TRIMMED,
)
"""The disturbances that every run must have had."""


@dataclass(kw_only=True)
class Scene:
    """The shared state of the disturbances and the comparisons."""

    settings: Settings
    seconds: float
    """The planned duration of the run in seconds; the disturbances are spread over it."""
    rounds: int = 0
    """The number of completed rounds of comparisons."""
    over: threading.Event = field(default_factory=threading.Event)
    done: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_complete(self) -> bool:
        """Whether all required disturbances have happened; the open transaction counts when it ends."""
        return all(self.done[name] for name in WANTED if name != TRANSACTION_SECONDS)

    def note(self, what: str, number: int = 1) -> None:
        """Count something that happened."""
        with self.lock:
            self.done[what] += number

    def pause(self, share: float) -> bool:
        """Wait for a share of the run's duration; return whether the run goes on."""
        return not self.over.wait(self.seconds * share)

    def await_rounds(self, number: int) -> None:
        """Wait until `number` more rounds have ended, the run is over, or the longest stop of a consumer is reached."""
        wanted, deadline = self.rounds + number, time.monotonic() + HOLD_SECONDS_MAX
        while self.rounds < wanted and time.monotonic() < deadline and not self.over.wait(LOOK_SECONDS):
            pass


@contextmanager
def disturbed(scene: Scene) -> Iterator[None]:
    """Run all disturbances during the block; an exception of one of them is raised at the end."""
    disturbances: tuple[Callable[[Scene], None], ...] = (
        leave_transaction_open,
        kill_relays,
        stop_consumers,
        build_anew,
        keep_small,
    )
    with ThreadPoolExecutor(len(disturbances), thread_name_prefix="disturbance") as threads:
        running = [threads.submit(_until_over, disturbance, scene) for disturbance in disturbances]
        try:
            yield
        finally:
            scene.over.set()
    for ending in running:
        ending.result()


def _until_over(disturbance: Callable[[Scene], None], scene: Scene) -> None:
    try:
        disturbance(scene)
    except BaseException:
        scene.over.set()
        raise


def leave_transaction_open(scene: Scene) -> None:
    """Keep a transaction with an id open for half of the time; all snapshots meanwhile show it as in progress."""
    scene.pause(0.25)
    # The server ends an idle transaction of the application's role after a minute; an operator's session has no limit.
    options = "-c idle_in_transaction_session_timeout=0"
    with psycopg.connect(scene.settings.pods[0].app_dsn, options=options) as connection:
        connection.execute("select pg_current_xact_id()")
        opened = time.monotonic()
        scene.pause(0.5)
    scene.note(TRANSACTION_SECONDS, round(time.monotonic() - opened))


def kill_relays(scene: Scene) -> None:
    """Kill the relays one after the other; the supervisor starts them again."""
    for pod in cycle(scene.settings.pods):
        if not scene.pause(0.2):
            return
        process_id = process_id_of(scene.settings, f"relay-{pod.pod}")
        if process_id is not None:
            os.kill(process_id, signal.SIGKILL)
            scene.note(RELAYS_KILLED)


def stop_consumers(scene: Scene) -> None:
    """Stop the consumers one after the other with SIGSTOP, until a whole comparison has ended."""
    names = [f"{name.replace('_', '-')}-{pod.pod}" for name in PROJECTIONS for pod in scene.settings.pods]
    for name in cycle(names):
        if not scene.pause(0.03):
            return
        with stopped(scene.settings, name) as is_stopped:
            if name.startswith("lake"):
                # Comparisons wait for the consumer: longer than any comparison takes, but shorter than the contract's
                # limit.
                scene.over.wait(min(20.0, scene.seconds / 10))
            else:
                # The first of these rounds may have begun before the stop.
                scene.await_rounds(2)
        scene.note(CONSUMERS_STOPPED, int(is_stopped))


def build_anew(scene: Scene) -> None:
    """Rebuild the whole warehouse from the lake, concurrently with the builds that the comparisons start."""
    with warm_builder(scene.settings) as builder:
        while scene.pause(0.2):
            builder.build_again(since={}, full_refresh=True)
            scene.note(REFRESHES)


def keep_small(scene: Scene) -> None:
    """Repeat the maintenance that Dagster schedules, each time in a new process."""
    keep_seconds = max(KEEP_SECONDS_MIN, round(scene.seconds / 4))
    while scene.pause(0.1):
        for what, number in _upkeep_apart(scene.settings, keep_seconds).items():
            scene.note(what, number)


def _upkeep_apart(settings: Settings, keep_seconds: int) -> dict[str, int]:
    """Run one maintenance in another process; end that process afterwards, even if it hangs."""
    context = multiprocessing.get_context("spawn")
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_send_upkeep, args=(answer, settings, keep_seconds), daemon=True)
    process.start()
    answer.close()
    try:
        if not answers.poll(UPKEEP_SECONDS_MAX):
            raise StackError(f"The upkeep did not end within {UPKEEP_SECONDS_MAX:.0f} s.")
        done: dict[str, int] = answers.recv()
        return done
    except EOFError:
        raise StackError("The upkeep failed; its process says why.") from None
    finally:
        process.kill()
        process.join()


def _send_upkeep(answer: Connection, settings: Settings, keep_seconds: int) -> None:
    answer.send(upkeep(settings, keep_seconds))


def upkeep(settings: Settings, keep_seconds: int) -> dict[str, int]:
    """Compact the lake, back it up, prune outboxes up to the backup, trim the log; return the counts by name."""
    from derived.lake_compaction import compact
    from derived.retention import prune_outboxes
    from streams.lag import trim_log
    from streams.logs import build_log

    compact(settings.catalog_dsn, settings.lake_data_path, keep_seconds=keep_seconds)
    pruned = sum(pod.pruned_events for pod in prune_outboxes(settings))
    log = build_log(settings)
    try:
        trimmed = sum(trim_log(log, pod.pod).removed_entries for pod in settings.pods)
    finally:
        log.close()
    return {COMPACTIONS: 1, EVENTS_PRUNED: pruned, ENTRIES_TRIMMED: trimmed}
