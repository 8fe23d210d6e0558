"""Which breaks of the warehouse's comparisons are compared again before finance's next round, and how soon.

Every round compares every break of the other pairs. A comparison of the warehouse needs a build, so its rounds are
rare; its breaks are compared again at once when something that they may depend on has changed: OLTP, the log or the
lake was mended, a row was written past the rules, a repair did something, an event of the aggregate was committed, or
somebody built the warehouse. When nothing changes, nothing is compared for them.

Between two such rounds lies the time in which half of the share earns what the one before took. A build by somebody
else may have mended any of them, or none: for builds the pause is twice as long after each round that ended no break,
up to the time between finance's rounds.

Belongs here: this decision, and the reads for it. Does not belong here: comparing (`stack/upkeep/reconciler.py`), the
ledger's part of the reads (`repair/ledger/awaiting.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg

from contracts.clock import Clock, utc_now
from contracts.ownership import LAKE, LOG, WAREHOUSE
from contracts.settings import Settings
from reconcile.connections import Connection, Connections
from reconcile.pairs import PAIRS
from repair.ledger.awaiting import Awaiting, awaiting

LOOK_SECONDS = 2.0
"""How often it is asked whether something has happened."""
OF_SHARE = 0.5
"""How much of the share these rounds take at most; the others find what no witness sees."""
CLOCKS_APART = timedelta(seconds=5)
"""What happened this long before a comparison began counts as happened since: several clocks tell the times."""
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
STORES = ("oltp", LOG.name, LAKE.name, WAREHOUSE.name)
"""Where something may happen that changes what a comparison of the warehouse finds."""
OF_WAREHOUSE = frozenset(pair.name for pair in PAIRS if pair.copy == WAREHOUSE.name)

# Each of these keys is looked up in the unique index of the outbox; without `offset 0` PostgreSQL may read all of it.
COMMITTED = """
select exists (
    select from unnest(%(types)s::text[], %(ids)s::text[]) as named (aggregate_type, aggregate_id)
    cross join lateral (
        select from oltp.outbox as o
        where o.aggregate_type = named.aggregate_type and o.aggregate_id = named.aggregate_id
          and o.recorded_at > %(since)s
        offset 0
    ) as event
)
"""
BUILT = """
select max(snapshot_id) from ducklake_snapshot_changes
where snapshot_id > %(after)s and commit_message like 'build%%'
"""
"""The newest snapshot that a build of ours has signed."""


@dataclass(kw_only=True)
class Again:
    """Knows when each pod's breaks were compared last, and asks what has happened since."""

    settings: Settings
    connections: Connections
    clock: Clock = utc_now
    since: dict[str, datetime] = field(default_factory=dict)
    """Pod -> when the last comparison of the warehouse began; a new reconciler compares what stands once."""
    run: str = ""
    """The run of that comparison."""
    built: int = 0
    """The newest snapshot of a build when that comparison ended."""
    may_at: float = 0.0
    """When the next round may begin, by the reconciler's monotonic clock."""
    may_follow_build_at: float = 0.0
    """The same for one that only a build asks for."""
    looked_at: float = float("-inf")
    idle: int = 0
    """How many rounds in succession ended no break."""

    def due(self, now: float) -> dict[str, frozenset[str]]:
        """Return pod -> the pairs of its breaks that something has happened to; none before a round may begin."""
        if now < max(self.may_at, self.looked_at + LOOK_SECONDS):
            return {}
        self.looked_at = now
        since = {pod.pod: self.since.get(pod.pod, NEVER) for pod in self.settings.pods}
        control = self.connections.to(self.settings.control_dsn)
        standing = awaiting(control, OF_WAREHOUSE, STORES, since, now=self.clock(), own_run=self.run)
        if not standing:
            return {}
        is_built = now >= self.may_follow_build_at and self._built() > self.built
        found: dict[str, frozenset[str]] = {}
        for pod in since:
            mine = [one for one in standing if one.pod == pod]
            if pod not in self.since or is_built or self._has_event(pod, mine, since[pod]):
                chosen = mine
            else:
                chosen = [one for one in mine if one.has_happened]
            if chosen:
                found[pod] = frozenset(one.pair for one in chosen)
        return found

    def compared(self, pods: Collection[str], began: datetime, run: str) -> None:
        """Note that a comparison of the warehouse which began then has said something of every break of these pods."""
        self.since |= dict.fromkeys(pods, began - CLOCKS_APART)
        self.run = run
        with suppress(psycopg.Error):  # then the next look asks once more
            self.built = self._built()

    def rest(self, now: float, cpu_seconds: float, share: float, *, has_ended: bool, seconds_max: float) -> None:
        """Choose when the next round may begin, after one that took this processor time."""
        self.idle = 0 if has_ended else self.idle + 1
        pause = max(cpu_seconds / (share * OF_SHARE), LOOK_SECONDS)
        self.may_at = now + min(pause, seconds_max)
        self.may_follow_build_at = now + min(pause * 2.0 ** min(self.idle, 16), seconds_max)

    def _built(self) -> int:
        row = self.connections.to(self.settings.catalog_dsn).execute(BUILT, {"after": self.built}).fetchone()
        return self.built if row is None or row[0] is None else int(row[0])

    def _has_event(self, pod: str, standing: Collection[Awaiting], since: datetime) -> bool:
        """Return whether an event of an aggregate with a break was committed since then."""
        named = [one.aggregate_key.split("/", 2)[1:] for one in standing if one.aggregate_key is not None]
        if not named:
            return False
        bound = {"types": [kind for kind, _ in named], "ids": [key for _, key in named], "since": since}
        try:
            return _is_true(self.connections.to(self.settings.pod(pod).reader_dsn), COMMITTED, bound)
        except psycopg.Error:  # a pod that is away has no new event; a comparison would say that it is away
            return False


def _is_true(connection: Connection, query: str, bound: Mapping[str, object]) -> bool:
    row = connection.execute(query, bound).fetchone()
    return row is not None and bool(row[0])
