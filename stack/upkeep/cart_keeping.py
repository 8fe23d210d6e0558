"""The worker of carts: a writer per pod all the time; comparing and expiring at intervals.

What it finds different it tells the reconciler, whose comparison opens the break that a repair ends.

Belongs here: these loops. Does not belong here: what they do (`oltp/carts/`, `stack/composition/carts.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psycopg

from contracts.errors import TieoutError
from contracts.settings import Settings
from contracts.text import counted
from contracts.verdicts import Verdict
from oltp.carts.expiry import expire_carts
from reconcile.cart_comparison import CartDifference, CartSweep
from stack.composition.carts import CartKeeper, cart_keepers

COMPARE_SECONDS = 20.0
TOLD_AGAIN_SECONDS = 300.0
"""The reconciler is told this often of a cart that stays different, e.g. while a person decides."""
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
    rounds = {keeper.pod: CartRounds() for keeper in keepers}
    while not stop.wait(LOOK_SECONDS):
        now = time.monotonic()
        if now - compared >= COMPARE_SECONDS:
            compared = now
            for keeper in keepers:
                compare_and_tell(keeper, rounds[keeper.pod], now)
        if now - expired >= EXPIRE_SECONDS:
            expired = now
            for keeper in keepers:
                _expire(keeper)


@dataclass(kw_only=True)
class CartRounds:
    """What is known of a pod's carts from one round to the next."""

    sweep: CartSweep = field(default_factory=CartSweep)
    told_at: dict[CartDifference, float] = field(default_factory=dict)
    """Difference -> when the reconciler was told of it last, by the monotonic clock."""
    verdict: Verdict | None = None

    def untold(self, differences: Sequence[CartDifference], now: float) -> tuple[CartDifference, ...]:
        """Return the differences of which the reconciler was not told lately, and note that it is told now.

        One that this round has not found is forgotten: if it comes again, it is another one.
        """
        known = {one: at for one, at in self.told_at.items() if now - at < TOLD_AGAIN_SECONDS}
        self.told_at = {one: known[one] for one in differences if one in known}
        found = tuple(one for one in differences if one not in self.told_at)
        self.told_at.update(dict.fromkeys(found, now))
        return found


def compare_and_tell(keeper: CartKeeper, rounds: CartRounds, now: float) -> None:
    """Compare the next part of a pod's carts, log what is new, and hand what differs to the reconciler."""
    found = keeper.compare(rounds.sweep)
    untold = rounds.untold(found.differences, now)
    if untold or found.verdict is not rounds.verdict:
        _log.log(logging.INFO if found.verdict is Verdict.CONSISTENT else logging.WARNING, "%s", found.sentence)
    rounds.verdict = found.verdict
    if not untold:
        return
    try:
        keeper.tell(replace(found, differences=untold))
    except psycopg.Error as error:
        rounds.told_at.clear()
        _log.error("Carts of %s that differ could not be handed to the reconciler: %s", keeper.pod, error)


def _expire(keeper: CartKeeper) -> None:
    try:
        removed = expire_carts(keeper.durable)
    except TieoutError as error:
        _log.warning("%s", error)
        return
    if removed:
        _log.info("%s: %s removed", keeper.pod, counted(removed, "expired cart"))
