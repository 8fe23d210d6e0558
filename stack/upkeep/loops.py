"""The upkeep worker, for work that must not depend on Dagster: it sends alerts about outages and incidents, trims a log
that is nearly full, and compares samples of what is cached.

When the system was started without Dagster's pages (`tieout up --no-ui`), it also does the work of Dagster's schedules
and sensors: compare, repair, expire, compact, prune (`stack/upkeep/timetable.py`).

Belongs here: the loops of that worker. Does not belong here: what is done (`stack/upkeep/watching.py`,
`stack/upkeep/lagging.py`, `stack/upkeep/log_room.py`, `stack/upkeep/alerting.py`, `stack/upkeep/routine.py`,
`stack/composition/sampling.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from contracts.settings import Settings
from stack.composition.sampling import compare_samples
from stack.looking.witnesses import read_uncompared, read_witnesses
from stack.processes.dagster_pages import pages_missing
from stack.scrubbing import scrubber
from stack.upkeep.alerting import tell
from stack.upkeep.cart_watch import CartWatch
from stack.upkeep.growth import is_too_large
from stack.upkeep.lagging import LagWatch
from stack.upkeep.log_room import make_room
from stack.upkeep.notification_watch import NotificationWatch
from stack.upkeep.pages_watch import PagesWatch
from stack.upkeep.watching import build_watch
from stack.upkeep.webhook_watch import WebhookWatch
from stack.upkeep.witness_watch import WitnessWatch

WATCH_SECONDS = 5.0
LAG_SECONDS = 15.0
PAGES_SECONDS = 30.0
PAGES_ANSWER_SECONDS = 30.0
ALERT_SECONDS = 30.0
ROOM_SECONDS = 10.0
SIZE_SECONDS = 5.0
SAMPLE_SECONDS = 30.0
REPAIR_END_SECONDS = 20.0
"""How long a stopped worker waits for its repair; the supervisor kills it ten seconds later."""
RESTING_SECONDS = 25.0
"""Dagster's sensor sends the same messages. If it ran within this time, we do nothing."""

logger = logging.getLogger("tieout.upkeep")


def run_upkeep(settings: Settings, stop: threading.Event, *, is_alone: bool) -> bool:
    """Watch and send alerts until `stop` is set; with `is_alone` (without Dagster) also run the timetable.

    Returns whether the process is to begin anew, because it has grown too large with the repairs that it ran.
    """
    watch = build_watch(settings)
    lags = LagWatch(settings=settings, told=watch.told_copies)
    pages = PagesWatch(missing=partial(pages_missing, settings, answer_seconds=PAGES_ANSWER_SECONDS))
    witnesses = WitnessWatch(read=partial(read_witnesses, settings), read_uncompared=partial(read_uncompared, settings))
    carts = CartWatch(settings=settings)
    notifications = NotificationWatch(settings=settings)
    webhooks = WebhookWatch(settings=settings)
    looks = (lags, pages, witnesses, carts, notifications, webhooks)
    watch.others = lambda: [trouble for look in looks for trouble in look.troubles]
    loops: list[tuple[Callable[[], object], float]] = [
        (watch.look_once, WATCH_SECONDS),
        (lags.look_once, LAG_SECONDS),
        (pages.look_once, PAGES_SECONDS),
        (witnesses.look_once, LAG_SECONDS),
        (carts.look_once, LAG_SECONDS),
        (notifications.look_once, LAG_SECONDS),
        (webhooks.look_once, LAG_SECONDS),
        (lambda: tell_unless_told(settings), ALERT_SECONDS),
        (lambda: make_room(settings), ROOM_SECONDS),
        (lambda: compare_samples(settings), SAMPLE_SECONDS),
    ]
    timetable = None
    if is_alone:
        from stack.upkeep.timetable import Timetable

        timetable = Timetable(settings=settings, stop=stop)
        loops += timetable.loops()
    # Each loop has its own thread, so that a loop that waits for a hanging server does not delay the others.
    threads = [
        threading.Thread(target=_repeat, args=(settings, work, seconds, stop), daemon=True) for work, seconds in loops
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(SIZE_SECONDS):
        if timetable is not None and not timetable.running and is_too_large(settings.repairer_memory_mb):
            logger.info("It holds more memory than TIEOUT_REPAIRER_MEMORY_MB allows, and begins anew")
            return True
    if timetable is not None:
        timetable.wait_for_repair(REPAIR_END_SECONDS)
    return False


def tell_unless_told(settings: Settings) -> None:
    """Write and send the messages that are due, unless Dagster's sensor has just done so."""
    from repair.alerts.queue import heartbeat
    from streams.clocks import database_clock

    ran_at = heartbeat(settings.control_dsn).ran_at
    now = database_clock(settings.control_dsn)()
    if ran_at is None or now - ran_at >= timedelta(seconds=RESTING_SECONDS):
        tell(settings)


def _repeat(settings: Settings, work: Callable[[], object], seconds: float, stop: threading.Event) -> None:
    clean, last = scrubber(settings), ""
    while not stop.is_set():
        try:
            work()
            last = ""
        except Exception as error:  # any error: the next attempt may succeed
            said = clean(f"{type(error).__name__}: {error}")
            if said != last:
                logger.warning("It is tried again every %g s: %s", seconds, said)
            last = said
        stop.wait(seconds)
