"""What repairs are planned from and what a plan is, as values: evidence, actions, budget.

Belongs here: the types that evidence, plan, actions and audit agree on. Does not belong here: reading evidence
(`repair/evidence/gathering.py`), deciding (`repair/plan.py`), doing (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from contracts.events.changes import FieldChange
from contracts.events.common import AggregateState

KEYS_SHOWN = 50
"""Of how many keys an action's answers and tables give the names; numbers are exact."""
KEYS_KEPT = 10_000
"""Of how many keys the audit's row of an action holds the names: by them a break knows that it was mended."""


class ActionKind(StrEnum):
    """What a repair may do. Actions are done in this order: from the log to the reports."""

    REPUBLISH = "republish"
    """Write cuts into the log again, from the outbox, as a new generation."""
    SET_LAKE_POSITION = "set_lake_position"
    """Set back a position of the lake that is beyond every cut: to the last complete one, which the log follows."""
    LOAD_CUTS = "load_cuts"
    """Take whole cuts into the lake from its verified backup: it needs them next, and log and outbox lack them."""
    RESTORE_EVENTS = "restore_events"
    """Insert into the lake events that it lost."""
    REPLACE_EVENTS = "replace_events"
    """Make the lake's rows of events what the outbox, or the verified backup, says of them."""
    REMOVE_DUPLICATES = "remove_duplicates"
    """Keep one row of each event in the lake."""
    REMOVE_EXTRA_EVENTS = "remove_extra_events"
    """Take out of the lake events that the pod never had."""
    REPLAY_PARKED = "replay_parked"
    """Apply parked events again, after what kept them was fixed."""
    RESTATE = "restate"
    """Say the present state of an aggregate in a new event: a write had bypassed the outbox."""
    REBUILD_KEYS = "rebuild_keys"
    """Make the rows of some aggregates in a view what the lake says."""
    REBUILD_VIEW = "rebuild_view"
    """Make all rows of a pod in a view what the lake says."""
    BUILD = "build_warehouse"
    """Compute the marts again from a cut on, or from nothing."""


class Source(StrEnum):
    """Who still knows what an event was."""

    OUTBOX = "outbox"
    BACKUP = "backup"
    """The verified backup of the lake, for cuts whose outbox rows are pruned."""


class DamageKind(StrEnum):
    """What is wrong with one event in the lake."""

    MISSING = "missing"
    ALTERED = "altered"
    DUPLICATE = "duplicate"
    EXTRA = "extra"
    """The lake has it, neither the outbox nor the backup do."""


@dataclass(frozen=True, kw_only=True)
class EventDamage:
    """One event of which the lake does not have exactly what left the pod."""

    kind: DamageKind
    event_id: str
    aggregate_key: str
    version: int
    cut: int
    source: Source | None
    """Who says what the event was; None for an extra event."""
    is_disputed: bool = False
    """Altered, and the log has it as the lake does: two against the outbox."""


@dataclass(frozen=True, kw_only=True)
class AggregateEvidence:
    """What the stores hold of one aggregate whose row differs somewhere."""

    root_version: int | None
    """The version of its row in OLTP; None: OLTP has no such row."""
    is_stated: bool
    """Whether its newest event says exactly what OLTP's tables hold."""
    has_events: bool
    """Whether any store has an event of it."""
    lowest_cut: int | None
    """The first cut that has an event of it; None without events."""
    newest_version: int = 0
    """The highest version of which there is an event; 0: there is none."""
    lost_versions: tuple[int, ...] = ()
    """Versions up to the root's of which no store has the event."""
    clashing: tuple[str, ...] = ()
    """Extra events in the lake that stand where no version is free: they cannot be an event that the outbox lost."""
    is_faulty: bool = False
    """Whether OLTP itself has an unsettled fault in it (an identity that does not hold)."""
    changes: tuple[FieldChange, ...] = ()
    """Where it is not stated: what differs from its newest event, all of it where there is none or no row.

    Where it is, and finance leaves it out for other amounts: what differs from the money that finance has.
    """
    currencies: tuple[str | None, str | None] = (None, None)
    """Of the newest event's state, and of the row."""
    digest: str = ""
    """Of what OLTP's tables hold: what a person approves, or a restatement states, is exactly this."""
    is_approved: bool = False
    """Whether a person has approved that exactly this is stated."""
    said: AggregateState | None = None
    """The state in its newest event; None: there is none, or it cannot be read."""
    is_left_out: bool = False
    """Whether finance leaves it out."""
    is_unexplained: bool = False
    """Whether it does because an event has other amounts than the one before, and does not say so."""
    believed: AggregateState | None = None
    """Then: what OLTP holds, with the money that finance has of it; None: that cannot be told apart."""


@dataclass(frozen=True, kw_only=True)
class ViewEvidence:
    """How a read model of one pod stands."""

    empty_tables: frozenset[str] = frozenset()
    """Tables without a single row of the pod."""
    has_gap: bool = False
    """Whether the log does not have what the view needs next: no longer, or, beyond every cut, never."""
    parked: frozenset[str] = frozenset()
    """Aggregates with parked events."""


@dataclass(frozen=True, kw_only=True)
class LostEvent:
    """An event that the log, the lake or its backup has, and the outbox no longer."""

    event_id: str | None
    """None: a manifest counts it, and nobody has it any more."""
    aggregate_key: str | None
    cut: int

    def sentence(self, pod: str) -> str:
        """Return why the log is not written again."""
        event = f"event {self.event_id} of {self.aggregate_key}" if self.event_id else "an event"
        return (
            f"The outbox of {pod} no longer has {event} of cut {self.cut}, which was published: its row was deleted. "
            "The log is not written again without it (docs/runbooks/log.md)."
        )


@dataclass(frozen=True, kw_only=True)
class PodEvidence:
    """What was found in one pod and its copies, for the breaks at hand."""

    pod: str
    base_cut: int
    """The outbox is pruned through this cut; 0: it is whole."""
    lake_reset_cut: int | None
    """Where the lake's position is to be set back to, as it is beyond every cut; None: it is not."""
    built_cut: int
    """Where the newest complete build of the warehouse stands; 0: there is none."""
    aggregates: Mapping[str, AggregateEvidence] = field(default_factory=dict)
    damages: tuple[EventDamage, ...] = ()
    event_cuts: Mapping[str, int] = field(default_factory=dict)
    """The cut of every event that was looked at."""
    wrong_log_cuts: frozenset[int] = frozenset()
    """Of the cuts that breaks of the log name: those of which the log does not hold what left the pod."""
    disputed_event: str | None = None
    """An event whose outbox row is before people: the log is not written again from an outbox that was changed."""
    views: Mapping[str, ViewEvidence] = field(default_factory=dict)
    lake_parked: frozenset[str] = frozenset()
    lost_event: LostEvent | None = None
    """Would be lost with the log's entry, if the log were written again from the outbox."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Aggregates that the newest complete build leaves out, by key: because of what."""
    gaps: Mapping[str, int] = field(default_factory=dict)
    """By copy: the cut that it needs next, where the log does not have it."""
    backed_up_cut: int = 0
    """The verified backup of the lake holds all cuts through this one."""
    is_logged_after_backup: bool = False
    """Whether the log has the cut after it, if there is one."""

    def parked_in(self, projection: str) -> frozenset[str]:
        """Return the aggregates with parked events in the lake, or in a view."""
        return self.lake_parked if projection == "lake" else self.views[projection].parked


Evidence = Mapping[str, PodEvidence]
"""By pod."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much one run may do before it stops and asks a person."""

    breaks_max: int = 10_000
    """Breaks that one run takes on."""
    actions_max: int = 100
    """Actions within an hour, over all runs."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One step of a repair, through the write path of the store that it mends."""

    kind: ActionKind
    store: str
    pod: str
    """For a build, which stands over all pods: those whose breaks caused it, comma separated."""
    keys: tuple[str, ...]
    """Event ids for the lake, aggregate keys otherwise; empty where everything is meant."""
    causes: tuple[int, ...]
    """The breaks that it is to mend."""
    why: str
    cuts: tuple[int, ...] = ()
    source: Source | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    """For restatements: the newest version of each aggregate of which there is an event."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """For restatements: of each aggregate as it was looked at; changed meanwhile, it is not stated."""
    again: tuple[str, ...] = ()
    """For restatements: aggregates that a person wants stated although their newest event says what is there."""
    since: Mapping[str, int] = field(default_factory=dict)
    """For a build: pod -> the cut after which everything is computed again."""
    is_full: bool = False
    """For a build: from nothing."""
    takes_lake_position: bool = False
    """For a whole view: the log no longer reaches back to its position."""

    @property
    def where(self) -> str:
        """Return store and pod, as tables show them."""
        return f"{self.store} of {self.pod}"


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """Breaks that code must not or cannot mend, and why: people decide."""

    break_ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done about some breaks."""

    actions: tuple[Action, ...] = ()
    """In the order in which they are done."""
    escalations: tuple[Escalation, ...] = ()
    deferred: tuple[int, ...] = ()
    """Breaks beyond the budget."""
    in_order: tuple[int, ...] = ()
    """Breaks of which the evidence finds nothing wrong any more: only the comparison is made again."""
