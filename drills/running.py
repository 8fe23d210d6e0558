"""Running drills one after the other on one system, and judging each drill.

Belongs here: turning every error into a part of the drill's outcome, and repairing the system before the next drill.
Does not belong here: the steps of a drill (`drills/cells.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from contracts.clock import utc_now
from contracts.drills import Drill
from drills.cells import Play, play_of
from drills.observing import Notes, Outcome, judge
from drills.scene import Scene
from drills.stores import store_of
from drills.system import System
from drills.trading import Trader


def run_drills(system: System, drills: Sequence[Drill]) -> Iterator[Outcome]:
    """Run the drills in order and yield each outcome; errors of a drill are part of its outcome and not raised."""
    workers = tuple(sorted(system.worker_states()))
    with Trader(settings=system.settings) as trader:
        for drill in drills:
            yield run_drill(system, drill, trader, workers)
            system.mend()


def run_drill(
    system: System, drill: Drill, trader: Trader, workers: tuple[str, ...], *, play: Play | None = None
) -> Outcome:
    """Run one drill and return its outcome; `play` replaces the steps of its cell."""
    notes, started_at, failure = Notes(clean=system.clean), utc_now(), ""
    scene = Scene(
        system=system,
        store=store_of(drill.copy, system),
        drill=drill,
        trader=trader,
        notes=notes,
        workers=workers,
    )
    try:
        scene.begin()
        (play or play_of(drill))(scene)
    except Exception as error:  # a drill that could not be finished has not held, for any reason
        failure = f"It could not be finished: {type(error).__name__}: {error}"
    outcome = judge(
        drill,
        notes,
        started_at=started_at,
        ended_at=utc_now(),
        seconds_broken=scene.seconds_broken,
        failure=failure,
        machine_load=os.getloadavg()[0] / (os.cpu_count() or 1),
    )
    return outcome if outcome.has_held else outcome.with_logs(system.log_tails())
