"""What damages and disturbances need of a running system: cuts, projections, and suspended workers.

Belongs here: building these for `drills/damages/`. Does not belong here: the damages.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from contracts.settings import Settings
from drills.damages.place import Place, Tools
from stack.composition.comparison import build_reconcile_context
from stack.composition.projections import build_projection
from stack.processes.supervision import Supervisor


def place_of(settings: Settings, pod: str) -> Place:
    """Return the pod and its copies as the place of a damage."""
    return Place(
        settings=settings,
        pod=pod,
        tools=Tools(
            newest_cut=partial(_newest_cut, settings),
            projection=lambda name: build_projection(name, settings),
            stopped=partial(stopped, settings),
        ),
    )


def _newest_cut(settings: Settings, pod: str) -> int:
    with build_reconcile_context(settings).take_cut(pod) as opened:
        return opened.cut


@contextmanager
def stopped(settings: Settings, worker: str) -> Iterator[bool]:
    """Suspend a worker (SIGSTOP) while the block runs, to simulate an overloaded machine; yield whether it exists."""
    process_id = process_id_of(settings, worker)
    if process_id is None:
        yield False
        return
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield True
    finally:
        os.kill(process_id, signal.SIGCONT)


def process_id_of(settings: Settings, worker: str) -> int | None:
    """Return the process id of a worker that `up` keeps running; None when there is no such worker."""
    states = Supervisor(var_dir=settings.var_dir).states()
    return next((state.process_id for state in states if state.name == worker), None)
