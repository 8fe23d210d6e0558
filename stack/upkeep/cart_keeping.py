"""The worker of carts: a writer per pod all the time; comparing and expiring at intervals.

What it finds different it tells the reconciler, whose comparison opens the break that a repair ends.

Belongs here: these loops. Does not belong here: what they do (`oltp/carts/`, `stack/composition/carts.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import psycopg

from contracts.errors import TieoutError
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import Verdict
from oltp.carts.expiry import expire_carts
from reconcile.cart_comparison import CartSweep
from stack.composition.carts import CartKeeper, cart_keepers

COMPARE_SECONDS = 300.0
EXPIRE_SECONDS = 3_600.0
LOOK_SECONDS = 1.0

_log = logging.getLogger("tieout.carts")


def run_carts(settings: Settings, stop: threading.Event) -> None:
    """Keep the carts of all pods until `stop`; what waits then is written before this returns."""
    with cart_keepers(settings) as keepers:
        seconds = settings.cart_write_ms / 1_000
        writers = [
            threading.Thread(target=keeper.writer.run, args=(stop,), kwargs={"seconds": seconds}, name=keeper.pod)
            for keeper in keepers
        ]
        for writer in writers:
            writer.start()
        _look_after(keepers, stop)
        for writer in writers:
            writer.join()


def _look_after(keepers: Sequence[CartKeeper], stop: threading.Event) -> None:
    compared = expired = time.monotonic()
    sweeps = {keeper.pod: CartSweep() for keeper in keepers}
    while not stop.wait(LOOK_SECONDS):
        now = time.monotonic()
        if now - compared >= COMPARE_SECONDS:
            compared = now
            for keeper in keepers:
                compare_and_tell(keeper, sweeps[keeper.pod])
        if now - expired >= EXPIRE_SECONDS:
            expired = now
            for keeper in keepers:
                _expire(keeper)


def compare_and_tell(keeper: CartKeeper, sweep: CartSweep) -> None:
    """Compare the next part of a pod's carts, log it, and hand what differs to the reconciler."""
    found = keeper.compare(sweep)
    _log.log(logging.INFO if found.verdict is Verdict.CONSISTENT else logging.WARNING, "%s", found.sentence)
    if not found.differences:
        return
    try:
        keeper.tell(found)
    except psycopg.Error as error:
        _log.error("Carts of %s that differ could not be handed to the reconciler: %s", keeper.pod, error)


def _expire(keeper: CartKeeper) -> None:
    try:
        removed = expire_carts(keeper.durable)
    except TieoutError as error:
        _log.warning("%s", error)
        return
    if removed:
        _log.info("%s: %s removed", keeper.pod, counted(removed, "expired cart"))
