"""The reconciler's worker: two lanes, so that what a witness saw waits for nothing.

One lane compares what witnesses saw: damage that is known is to be found within seconds also on a machine that has much
to do. The other lane goes round by round; between two steps of a round it waits while the first lane compares. Both use
one share of the processor, which keeps commands from waiting. Neither thread has a low priority: it would hold Python's
lock while it waits for a processor, and with it the other lane. What is long, a build of the warehouse, is a process of
low priority.

Belongs here: the lanes, and when the worker begins anew. Does not belong here: what a lane compares
(`stack/upkeep/reconciler.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from contracts.settings import Settings
from stack.composition.builder import WarehouseBuilder, warm_builder
from stack.composition.kept_builder import KeptBuilder
from stack.scrubbing import scrubber
from stack.upkeep.cpu_share import SAVED_SECONDS_MAX, CpuShare
from stack.upkeep.growth import is_too_large
from stack.upkeep.reconciler import Reconciler, RoundKind

LOOK_SECONDS = 0.2
"""How often it looks for sightings, and whether a round may begin; a look is one statement."""
NICENESS = 5
"""How much lower the priority of a build is."""
GIVE_WAY_SECONDS_MAX = 60.0
"""A round waits at most this long for the other lane at each step, so that it ends also when sightings never do."""
END_SECONDS = 15.0
"""How long a stopped worker waits for its rounds; the supervisor kills it five seconds later."""

logger = logging.getLogger("tieout.reconciler")


@dataclass(kw_only=True)
class Lane:
    """One loop: `step` compares what is next, or returns None; it is repeated until `stop` is set."""

    step: Callable[[], RoundKind | None]
    stop: threading.Event
    clean: Callable[[str], str]
    is_at_rest: threading.Event = field(default_factory=threading.Event)
    """Set while no step runs."""
    has_run: threading.Event = field(default_factory=threading.Event)
    """Set when a step has compared something."""
    _said: str = ""

    def repeat(self) -> None:
        """Take a step every LOOK_SECONDS."""
        self.is_at_rest.set()
        while not self.stop.wait(LOOK_SECONDS):
            self.take()

    def take(self) -> None:
        """Take one step; any error is logged once, as the next step may succeed."""
        self.is_at_rest.clear()
        try:
            if self.step() is not None:
                self.has_run.set()
            self._said = ""
        except Exception as error:  # any error, e.g. the control database is away
            said = self.clean(f"{type(error).__name__}: {error}")
            if said != self._said:
                logger.warning("It is tried again every %g s: %s", LOOK_SECONDS, said)
            self._said = said
        finally:
            self.is_at_rest.set()


def run_reconciler(settings: Settings, stop: threading.Event) -> bool:
    """Compare until `stop` is set; return whether the process is to begin anew, because it has grown too large.

    Between two rounds each lane holds at most one idle connection, to the control database, and no snapshot.
    """
    earned = settings.reconciler_cpu_percent / 100
    # It begins with a debt: the first pass of `make run` compares everything itself, and is not to share the processor.
    share = CpuShare(share=earned, at=time.monotonic(), credit=-SAVED_SECONDS_MAX * earned)
    ended, clean = threading.Event(), scrubber(settings)
    with closing(KeptBuilder(settings=settings, start=_patient_builder)) as builder:
        seen = Reconciler(settings=settings, share=share, builder=builder)
        urgent = Lane(step=seen.look, stop=ended, clean=clean)
        rounds = Reconciler(
            settings=settings, share=share, builder=builder, give_way=lambda: _give_way(urgent.is_at_rest)
        )
        ordinary = Lane(step=rounds.go_round, stop=ended, clean=clean)
        threads = [
            threading.Thread(target=urgent.repeat, name="seen", daemon=True),
            threading.Thread(target=ordinary.repeat, name="rounds", daemon=True),
        ]
        for thread in threads:
            thread.start()
        is_large = False
        while not is_large and not stop.wait(LOOK_SECONDS):
            is_large = _has_grown(settings, ordinary, urgent)
        ended.set()
        deadline = time.monotonic() + END_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    if is_large:
        logger.info("It holds more memory than TIEOUT_RECONCILER_MEMORY_MB allows, and begins anew")
    return is_large and not stop.is_set()


@contextmanager
def _patient_builder(settings: Settings) -> Iterator[WarehouseBuilder]:
    """Start a builder at low priority, whichever lane asks for it: a build is long."""
    with warm_builder(settings) as builder:
        os.setpriority(os.PRIO_PROCESS, builder.child.pid, NICENESS)
        yield builder


def _give_way(is_at_rest: threading.Event) -> None:
    is_at_rest.wait(GIVE_WAY_SECONDS_MAX)


def _has_grown(settings: Settings, *lanes: Lane) -> bool:
    """Return whether a round has made this process too large, while no lane is at work."""
    if not any(lane.has_run.is_set() for lane in lanes) or not all(lane.is_at_rest.is_set() for lane in lanes):
        return False
    for lane in lanes:
        lane.has_run.clear()
    return is_too_large(settings.reconciler_memory_mb)
