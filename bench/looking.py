"""Looking at a system that finds and repairs by itself: when a damage was found, repaired, proven and told.

Everything is read from the ledger of breaks, the audit and the queue of messages; nothing is launched. Belongs here:
these looks, and what each worker takes meanwhile. Does not belong here: making damages (`drills/damages/`,
`bench/random_damages.py`), starting the system (`bench/repairs.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psutil

from bench.random_damages import MARTS, READ_MODELS, Change
from bench.random_serving import FOUND_BY as FOUND_IN_SERVING
from contracts.breaks import ENDED, Break, BreakState
from contracts.ownership import READ_MODELS as VIEWS
from contracts.ownership import WAREHOUSE, family_of
from contracts.settings import Settings
from contracts.sightings import KeptSighting
from reconcile.pairs import PAIRS
from reconcile.sightings import newest_sightings
from repair import ledger
from repair.alerts.deciding import Alert, AlertKind
from repair.alerts.queue import latest_alerts
from stack.processes.supervision import Supervisor

LOOK_SECONDS = 1.0
FAMILIES = frozenset(family_of(pair.name) for pair in PAIRS)
FOUND_BY = {
    READ_MODELS: {one for copy in VIEWS for one in copy.found_by},
    MARTS: set(WAREHOUSE.found_by),
    **FOUND_IN_SERVING,
}
"""Store -> the families of pairs that can find a damage there; of other stores any can."""
MESSAGES_READ = 5_000


@dataclass(frozen=True, kw_only=True)
class Times:
    """When something became of a damage, in seconds after it; None: not yet."""

    found: float | None = None
    proven: float | None = None
    """When the last of its breaks was found in order again, by a comparison after its repair."""
    told: float | None = None
    state: str = "not found"
    """`not found`, `proven`, `before people`, `vanished`, or `open`."""
    pairs: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens without a person."""
        return self.state in ("proven", "before people", "vanished")

    @property
    def repaired(self) -> float | None:
        """Seconds from finding to the proof."""
        return None if self.found is None or self.proven is None else self.proven - self.found


@dataclass(frozen=True, kw_only=True)
class Records:
    """All breaks and the newest messages, read once for all damages that are looked at."""

    breaks: Sequence[Break]
    alerts: Sequence[Alert]
    sightings: Sequence[KeptSighting] = ()


def read_records(settings: Settings) -> Records:
    """Return what the ledger and the queue of messages have now."""
    return Records(
        breaks=ledger.breaks(settings.control_dsn, limit=None),
        alerts=latest_alerts(settings.control_dsn, limit=MESSAGES_READ),
        sightings=newest_sightings(settings.control_dsn, limit=MESSAGES_READ),
    )


def times_of(alerts: Sequence[Alert], at: datetime, breaks: Sequence[Break]) -> Times:
    """Return what became of a damage at this time, which has these breaks; `alerts`: the messages to people."""
    if not breaks:
        return Times()
    groups = {item.group_id for item in breaks}
    told = [
        alert.sent_at or alert.created_at
        for alert in alerts
        if alert.group_id in groups and alert.kind is AlertKind.OPENED and alert.created_at >= at
    ]
    states = {item.state for item in breaks}
    ended = [item.ended_at for item in breaks if item.ended_at is not None]
    if not states <= ENDED:
        state = "before people" if states <= ENDED | {BreakState.ESCALATED} else "open"
    else:
        state = "proven" if BreakState.REPAIRED in states else "vanished"
    return Times(
        found=(min(item.first_seen_at for item in breaks) - at).total_seconds(),
        proven=(max(ended) - at).total_seconds() if state == "proven" else None,
        told=(min(told) - at).total_seconds() if told else None,
        state=state,
        pairs=tuple(sorted({item.pair for item in breaks})),
    )


def seen_after(change: Change, sightings: Sequence[KeptSighting]) -> float | None:
    """Return how many seconds after the damage a witness saw a write to its table; None: none did."""
    found = [
        one.seen_at
        for one in sightings
        if one.seen_at >= change.at and one.place.rpartition(".")[2] == change.table.rpartition(".")[2]
    ]
    return (min(found) - change.at).total_seconds() if found else None


def breaks_of_change(change: Change, breaks: Sequence[Break]) -> list[Break]:
    """Return the breaks of a changed value: found after it, and with a key or an aggregate that its row names.

    A read model or a mart is compared by its own pairs only; OLTP and the lake are compared with every copy.
    """
    return [item for item in breaks if item.first_seen_at >= change.at and _is_of(change, item)]


def _is_of(change: Change, item: Break) -> bool:
    if (change.pod and item.pod != change.pod) or family_of(item.pair) not in FOUND_BY.get(change.store, FAMILIES):
        return False
    if item.aggregate_key is not None and item.aggregate_key.split("/", 2)[2] in change.row:
        return True
    key = {part for part in item.key if part is not None}
    return bool(key) and key <= change.row


def wait(is_over: Callable[[], bool], patience_seconds: float) -> bool:
    """Look until it is over or the patience is; return whether it is over."""
    deadline = time.monotonic() + patience_seconds
    while not is_over():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


@dataclass(kw_only=True)
class Workers:
    """What every worker of a stack takes while it is looked at."""

    settings: Settings
    began: float = field(default_factory=time.monotonic)
    _before: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count."""
        self._before = {name: cpu for name, (cpu, _) in self._now().items()}

    def taken(self) -> dict[str, tuple[float, float]]:
        """Return worker -> (percent of one processor since the beginning, megabytes of resident memory now)."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        return {
            name: (100 * (cpu - self._before.get(name, 0.0)) / seconds, memory)
            for name, (cpu, memory) in self._now().items()
        }

    def _now(self) -> dict[str, tuple[float, float]]:
        found = {}
        for state in Supervisor(var_dir=self.settings.var_dir).states():
            try:
                process = psutil.Process(state.process_id or 0)
                spent = process.cpu_times()
                cpu = spent.user + spent.system + spent.children_user + spent.children_system
                found[state.name] = (cpu, process.memory_info().rss / 1_000_000)
            except psutil.Error:
                continue
        return found
