"""The drills: for every copy and every test, what is broken, what must hold meanwhile, and how the copy recovers.

Belongs here: the declaration, as values, and how old a proof may be. The matrix (`docs/drills.md`, `tieout drill
--matrix`), the freshness of the proofs and what a run must observe are derived from it. Does not belong here: breaking
anything (`drills/`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from contracts.errors import InputError
from contracts.ownership import ANSWER_CACHE, CART, COPIES, KEYED, LAKE, LOG, WAREHOUSE, WEBHOOKS, Copy, CopyKind

PROOF_AGE_MAX = timedelta(days=8)
"""A proof that is older than this does not count any more. The schedule runs the drills every night."""


class DrillTest(StrEnum):
    """What is done to a copy, in the order in which a run does it."""

    REPLAY = "replay"
    """Delete the copy's content, rebuild it from its source, and compare it with its owner: it must be equal."""
    LAG = "lag"
    """Under load, stop the process that updates the copy, then start it again: the copy must catch up."""
    STALE_READ = "stale_read"
    """Serve from the copy while it is stale: no decision that is based on it may be wrong."""
    SOURCE_OUTAGE = "source_outage"
    """Kill the copy's source: the copy must degrade as the contract says, and recover without help."""


class Promise(StrEnum):
    """What must hold during or after a drill. A run records under this name that it checked, and what it observed."""

    WAS_HEALTHY = "was_healthy"
    TRADE_GOES_ON = "trade_goes_on"
    OTHER_PODS_GO_ON = "other_pods_go_on"
    LIMITS_HOLD = "limits_hold"
    REFUSED_IN_WORDS = "refused_in_words"
    LAG_IS_REPORTED = "lag_is_reported"
    OUTAGE_IS_REPORTED = "outage_is_reported"
    LATE_IS_NOT_WRONG = "late_is_not_wrong"
    SAYS_ITS_AGE = "says_its_age"
    SERVES_WHAT_IT_HAS = "serves_what_it_has"
    STALE_DECISIONS_FAIL = "stale_decisions_fail"
    NOTHING_IS_FORGOTTEN = "nothing_is_forgotten"
    IS_GONE = "is_gone"
    IS_REBUILT = "is_rebuilt"
    COMES_BACK_BY_ITSELF = "comes_back_by_itself"
    CATCHES_UP = "catches_up"
    EQUAL_AGAIN = "equal_again"
    NOTHING_LOST_OR_DOUBLE = "nothing_lost_or_double"

    @property
    def words(self) -> str:
        """Return the promise as a sentence."""
        return _WORDS[self]


_WORDS = {
    Promise.WAS_HEALTHY: "Before anything is broken, everything runs and the copy is within its freshness target.",
    Promise.TRADE_GOES_ON: "In every pod orders are placed, paid, shipped and refunded, while the load goes on.",
    Promise.OTHER_PODS_GO_ON: "The other pods sell, ship and refund as before.",
    Promise.LIMITS_HOLD: "More than there is in stock is not sold, more than was captured not refunded, and nothing "
    "is shipped twice.",
    Promise.REFUSED_IN_WORDS: "What cannot be answered is refused in one sentence, without a password in it.",
    Promise.LAG_IS_REPORTED: "`tieout status` says how far behind it is; by the contract that is late, not wrong, and "
    "past its largest lag people are told.",
    Promise.OUTAGE_IS_REPORTED: "`tieout status` answers, and says what cannot be reached.",
    Promise.LATE_IS_NOT_WRONG: "No comparison that is made meanwhile calls anything inconsistent.",
    Promise.SAYS_ITS_AGE: "Its answers say up to which cut they go and how old they are, and the age grows.",
    Promise.SERVES_WHAT_IT_HAS: "It serves what it has, unchanged.",
    Promise.STALE_DECISIONS_FAIL: "A decision made on what it says is refused by OLTP where it would be wrong.",
    Promise.NOTHING_IS_FORGOTTEN: "No clean-up deletes what the copy does not have yet.",
    Promise.IS_GONE: "The wipe took everything; nothing is left that could be compared with itself.",
    Promise.IS_REBUILT: "The rebuild that the runbook names brings it back while orders are placed.",
    Promise.COMES_BACK_BY_ITSELF: "Nobody restarts or repairs anything but what was killed.",
    Promise.CATCHES_UP: "It has everything that was committed until then, within its largest lag.",
    Promise.EQUAL_AGAIN: "Compared key by key with its owner at a new cut, it is equal.",
    Promise.NOTHING_LOST_OR_DOUBLE: "Every order that was acknowledged while it was broken is in it exactly once.",
}


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One cell of the matrix."""

    copy: Copy
    test: DrillTest
    breaks: str
    """What the drill does to the copy, a sentence."""
    meanwhile: tuple[Promise, ...]
    """What must hold while it is broken."""
    recovers: str
    """How the copy recovers, a sentence."""
    afterwards: tuple[Promise, ...]
    """What must hold after the copy has recovered."""

    @property
    def pairs(self) -> tuple[str, ...]:
        """Return the comparisons, or families of comparisons, that must find the copy equal afterwards."""
        return self.copy.found_by

    @property
    def name(self) -> str:
        """Return the name of the cell, as it is used in file names."""
        return f"{self.copy.name}-{self.test}"

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Return every promise that a run must observe."""
        return (Promise.WAS_HEALTHY, *self.meanwhile, *self.afterwards)


TRADING = (Promise.TRADE_GOES_ON, Promise.LIMITS_HOLD)
PROVEN = (Promise.EQUAL_AGAIN, Promise.NOTHING_LOST_OR_DOUBLE)
REBUILT = (Promise.IS_REBUILT, Promise.CATCHES_UP, *PROVEN)
LATE = (*TRADING, Promise.LAG_IS_REPORTED, Promise.LATE_IS_NOT_WRONG)
BACK = (Promise.COMES_BACK_BY_ITSELF, Promise.CATCHES_UP, *PROVEN)
LOST_LOG = (*TRADING, Promise.OUTAGE_IS_REPORTED, Promise.SERVES_WHAT_IT_HAS, Promise.SAYS_ITS_AGE)

KILL_LOG = "Valkey is killed and stays away."
LOG_IS_BACK = "Valkey is started again on its data; relays and consumers reconnect and go on from their positions."


WIPED = {
    CopyKind.READ_MODEL: "Its tables, positions and parked events are emptied",
    CopyKind.SEARCH: "The folders of its indexes are deleted, positions and parked events included",
}


Cell = tuple[str, tuple[Promise, ...], str, tuple[Promise, ...]]
"""What is broken, what must hold meanwhile, how it recovers, and what must hold afterwards."""


def _drills(copy: Copy, *cells: Cell) -> tuple[Drill, ...]:
    """Return the drills of a copy: one cell per test, in their order."""
    return tuple(
        Drill(copy=copy, test=test, breaks=breaks, meanwhile=meanwhile, recovers=recovers, afterwards=afterwards)
        for test, (breaks, meanwhile, recovers, afterwards) in zip(DrillTest, cells, strict=True)
    )


CONSUMERS_KILLED = "Its consumers are killed and kept from starting."
CAUGHT_UP = (Promise.CATCHES_UP, *PROVEN)
DECIDED = (Promise.SERVES_WHAT_IT_HAS, Promise.STALE_DECISIONS_FAIL)
SERVED = (*TRADING, Promise.OUTAGE_IS_REPORTED, Promise.SERVES_WHAT_IT_HAS)

CACHE_DRILLS = _drills(
    ANSWER_CACHE,
    (
        "Its server is emptied while its consumers run: answers, floors and positions are gone.",
        (Promise.IS_GONE, *TRADING, Promise.SERVES_WHAT_IT_HAS),
        "Its consumers begin anew at the end of the log; whoever asks for a page fills the cache again.",
        BACK,
    ),
    (
        CONSUMERS_KILLED,
        LATE,
        "Its consumers are started; they go on from the position that they committed with the floors.",
        CAUGHT_UP,
    ),
    (f"{CONSUMERS_KILLED} {ANSWER_CACHE.stale_decision}", DECIDED, "Its consumers are started.", CAUGHT_UP),
    (
        "Its server is killed and stays away.",
        SERVED,
        "Its server is started again; consumers go on, or begin anew if it has lost what it held.",
        BACK,
    ),
)

WEBHOOKS_KILLED = "The workers that note and send are killed and kept from starting."
WEBHOOK_DRILLS = _drills(
    WEBHOOKS,
    (
        "Its workers are killed; all notes and positions are deleted: nobody knows what was told, or must be.",
        (Promise.IS_GONE, *TRADING),
        "Its workers begin at the end of the log. `tieout reconcile` finds what is missing; `tieout repair` notes it "
        "from the lake. All of it is told again, each message with the id that it had.",
        REBUILT,
    ),
    (
        WEBHOOKS_KILLED,
        LATE,
        "Its workers are started; they go on from the position that they committed with the notes.",
        CAUGHT_UP,
    ),
    (f"{WEBHOOKS_KILLED} {WEBHOOKS.stale_decision}", DECIDED, "Its workers are started.", CAUGHT_UP),
    (f"{KILL_LOG} What is noted and waits is told meanwhile.", SERVED, LOG_IS_BACK, BACK),
)

WRITER_KILLED = "The worker that writes carts through to their pods is killed and kept from starting."
CART_DRILLS = _drills(
    CART,
    (
        "Its server is emptied: all carts and sessions are gone.",
        (Promise.IS_GONE, *TRADING, Promise.SERVES_WHAT_IT_HAS),
        "Each cart comes back from its pod when somebody asks for it.",
        BACK,
    ),
    (
        WRITER_KILLED,
        (*LATE, Promise.SERVES_WHAT_IT_HAS),
        "The worker is started; it writes what waits.",
        CAUGHT_UP,
    ),
    (f"{WRITER_KILLED} {CART.stale_decision}", DECIDED, "The worker is started.", CAUGHT_UP),
    (
        "Its server is killed and stays away; shoppers go on with what their pods have.",
        SERVED,
        "Its server is started again; the worker merges what the pods have got meanwhile.",
        BACK,
    ),
)


def _view_drills(view: Copy) -> tuple[Drill, ...]:
    return _drills(
        view,
        (
            f"{WIPED[view.kind]}, when the log no longer reaches back to cut 1.",
            (Promise.IS_GONE, *TRADING),
            f"`tieout rebuild {view.name}`: content and position from the lake, the rest from the log.",
            REBUILT,
        ),
        (
            CONSUMERS_KILLED,
            (*LATE, Promise.SAYS_ITS_AGE),
            "Its consumers are started; they go on from the position that they committed with the rows.",
            CAUGHT_UP,
        ),
        (
            f"{CONSUMERS_KILLED} {view.stale_decision}",
            (Promise.SERVES_WHAT_IT_HAS, Promise.SAYS_ITS_AGE, Promise.STALE_DECISIONS_FAIL),
            "Its consumers are started.",
            CAUGHT_UP,
        ),
        (KILL_LOG, LOST_LOG, LOG_IS_BACK, BACK),
    )


DRILLS: tuple[Drill, ...] = (
    *_drills(
        LOG,
        (
            "Valkey is killed, its data are deleted, and it starts empty.",
            (Promise.IS_GONE, *TRADING),
            "The relays find the streams empty, and publish every cut again that the outbox has.",
            REBUILT,
        ),
        (
            "The relays are killed and kept from starting.",
            LATE,
            "The relays are started; they go on from where the streams end.",
            CAUGHT_UP,
        ),
        (
            "The relays are killed; every copy goes on reading a log that ends in the past. Meanwhile orders are "
            "cancelled, shipped and refunded.",
            (
                Promise.SAYS_ITS_AGE,
                Promise.STALE_DECISIONS_FAIL,
                Promise.NOTHING_IS_FORGOTTEN,
                Promise.LATE_IS_NOT_WRONG,
            ),
            "The relays are started.",
            CAUGHT_UP,
        ),
        (
            "The PostgreSQL of one pod is killed, with its outbox, in the middle of transactions.",
            (
                Promise.OTHER_PODS_GO_ON,
                Promise.LIMITS_HOLD,
                Promise.REFUSED_IN_WORDS,
                Promise.OUTAGE_IS_REPORTED,
                Promise.SERVES_WHAT_IT_HAS,
            ),
            "PostgreSQL is started and recovers what was committed; the relay reconnects and goes on.",
            BACK,
        ),
    ),
    *_drills(
        LAKE,
        (
            "The lake's catalog database is dropped and its files are deleted, finance marts included.",
            (Promise.IS_GONE, *TRADING, Promise.REFUSED_IN_WORDS),
            "`tieout restore-lake` from the verified backup; its consumers apply the rest from the log.",
            REBUILT,
        ),
        (
            "The lake's consumers are killed and kept from starting.",
            LATE,
            "Its consumers are started; they go on from the fence that they committed with the events.",
            CAUGHT_UP,
        ),
        (
            "The lake's consumers are killed; trimming, pruning and rebuilding are asked to go by the lake.",
            (Promise.NOTHING_IS_FORGOTTEN, Promise.STALE_DECISIONS_FAIL, Promise.SAYS_ITS_AGE),
            "Its consumers are started.",
            CAUGHT_UP,
        ),
        (KILL_LOG, LOST_LOG, LOG_IS_BACK, BACK),
    ),
    *_drills(
        WAREHOUSE,
        (
            "All tables and views that dbt built, and the records of the builds, are dropped.",
            (Promise.IS_GONE, *TRADING, Promise.REFUSED_IN_WORDS),
            "`tieout rebuild warehouse`: everything is computed again from the lake's events.",
            REBUILT,
        ),
        (
            "Nothing is built while orders are placed.",
            (*TRADING, Promise.LAG_IS_REPORTED, Promise.SAYS_ITS_AGE),
            "The next build takes in what came since the last one.",
            CAUGHT_UP,
        ),
        (
            "Reports are read, and decided on, while orders that they do not know are paid and refunded.",
            (Promise.SERVES_WHAT_IT_HAS, Promise.SAYS_ITS_AGE, Promise.STALE_DECISIONS_FAIL),
            "The next build takes in what came since the last one.",
            CAUGHT_UP,
        ),
        (
            "The PostgreSQL with the lake's catalog is killed, and with it the views and the control database.",
            (*TRADING, Promise.OUTAGE_IS_REPORTED, Promise.REFUSED_IN_WORDS),
            "PostgreSQL is started; consumers reconnect, and the next build succeeds.",
            BACK,
        ),
    ),
    *(drill for view in KEYED for drill in _view_drills(view)),
    *CACHE_DRILLS,
    *WEBHOOK_DRILLS,
    *CART_DRILLS,
)
"""The matrix: every copy of the contract with every test, in the order in which a run goes through it."""


def drills_named(system: str | None = None, test: str | None = None) -> tuple[Drill, ...]:
    """Return the drills of the copy `system` and the test `test`; None means all. InputError lists the known names."""
    _check("system", system, [copy.name for copy in COPIES])
    _check("test", test, [kind.value for kind in DrillTest])
    return tuple(drill for drill in DRILLS if system in (None, drill.copy.name) and test in (None, drill.test.value))


def _check(what: str, given: str | None, known: Collection[str]) -> None:
    if given is not None and given not in known:
        raise InputError(f"There is no {what} {given!r} to drill; there are {', '.join(known)}.")
