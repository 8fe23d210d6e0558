"""The values of repairs: evidence, actions, plan and budget.

Belongs here: the types that evidence, plan, actions and audit agree on. Does not belong here: reading evidence
(`repair/evidence/gathering.py`), deciding (`repair/plan.py`), doing (`repair/actions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from contracts.events.changes import FieldChange
from contracts.events.common import AggregateState

KEYS_SHOWN = 50
"""Largest number of keys in an action's results and tables; counts are exact."""
KEYS_KEPT = 10_000
"""Largest number of keys in an action's audit row. By these keys we find which breaks an action has repaired."""


class ActionKind(StrEnum):
    """The kinds of actions. A repair executes them in this order, from the log to the marts."""

    REPUBLISH = "republish"
    """Publish cuts from the outbox again, into a new generation of the log."""
    SET_LAKE_POSITION = "set_lake_position"
    """Reset a position of the lake that is above every cut to the last complete cut, from which the log continues."""
    LOAD_CUTS = "load_cuts"
    """Load the lake's next cuts from its verified backup, because log and outbox do not have them."""
    RESTORE_EVENTS = "restore_events"
    """Insert events that the lake has lost."""
    REPLACE_EVENTS = "replace_events"
    """Replace the lake's rows of events by those of the outbox or of the verified backup."""
    REMOVE_DUPLICATES = "remove_duplicates"
    """Keep only one row of each event in the lake."""
    REMOVE_EXTRA_EVENTS = "remove_extra_events"
    """Remove events from the lake that the pod never had."""
    REPLAY_PARKED = "replay_parked"
    """Apply parked events again, after the cause was fixed."""
    RESTATE = "restate"
    """Write a new event with the present state of an aggregate, because a write had bypassed the outbox."""
    REBUILD_KEYS = "rebuild_keys"
    """Rebuild the rows of some aggregates in a view from the lake."""
    REBUILD_VIEW = "rebuild_view"
    """Rebuild all rows of a pod in a view from the lake."""
    MERGE_CARTS = "merge_carts"
    """Merge carts of Valkey and of their pod, both ways."""
    DROP_ANSWERS = "drop_answers"
    """Drop answers of the cache: those about some aggregates, or all of a pod, with everything that says which are old.
    """
    REDELIVER = "redeliver_webhooks"
    """Note from the lake what endpoints must be told, so that it is told again; withdraw what they need not."""
    BUILD = "build_warehouse"
    """Build the marts again, from a cut on or completely."""


class Source(StrEnum):
    """A store that has the published event."""

    OUTBOX = "outbox"
    BACKUP = "backup"
    """The verified backup of the lake, for cuts whose outbox rows are pruned."""


class DamageKind(StrEnum):
    """The kind of damage of one event in the lake."""

    MISSING = "missing"
    ALTERED = "altered"
    DUPLICATE = "duplicate"
    EXTRA = "extra"
    """The lake has the event, but neither the outbox nor the backup has."""


@dataclass(frozen=True, kw_only=True)
class EventDamage:
    """One event that is in the lake not exactly as it was published."""

    kind: DamageKind
    pod: str
    """The pod whose event it is in the lake; of an aggregate that has moved, every pod has some."""
    event_id: str
    aggregate_key: str
    version: int
    cut: int
    source: Source | None
    """The store with the published event; None for extra and duplicate events."""
    is_disputed: bool = False
    """Whether the event is altered and the log has it like the lake, so that two stores contradict the outbox."""
    held_as: tuple[str, ...] = ()
    """Keys of other aggregates under which the lake has it, so that rows of those may have been built from it."""


@dataclass(frozen=True, kw_only=True)
class AggregateEvidence:
    """What the stores hold of one aggregate with a difference."""

    root_version: int | None
    """The version of its row in OLTP; None: OLTP has no such row."""
    is_stated: bool
    """Whether its newest event has exactly the state in OLTP's tables."""
    has_events: bool
    """Whether any store has an event of it."""
    first_cuts: Mapping[str, int]
    """Pod -> the first cut that has an event of it; empty without events."""
    home: str
    """The pod where its merchant lives: its row is read and written there."""
    sent: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """If its merchant has moved: pod -> first and last version that the pod has sent; else empty."""
    is_homeless: bool = False
    """Whether its merchant has rows in several pods and lives in none of them."""
    newest_version: int = 0
    """The highest version with an event; 0: there is no event."""
    lost_versions: tuple[int, ...] = ()
    """Versions up to `root_version` whose event no store has."""
    clashing: tuple[str, ...] = ()
    """Extra events in the lake whose version another event has, or which is above the row's version. So they are not
    events that the outbox has lost.
    """
    is_faulty: bool = False
    """Whether OLTP's rows of it have an unsettled break of an identity."""
    changes: tuple[FieldChange, ...] = ()
    """If it is not stated: the differences between its newest event and its row; all fields when one of them is
    missing. If it is stated, but finance leaves it out because of its amounts: the differences from finance's amounts.
    """
    currencies: tuple[str | None, str | None] = (None, None)
    """Currency of the newest event's state, and of the row."""
    digest: str = ""
    """Digest of the state in OLTP's tables. An approval or a restatement holds only for this digest."""
    is_approved: bool = False
    """Whether a person has approved a restatement of exactly this state."""
    said: AggregateState | None = None
    """The state in its newest event; None: there is no event, or it is unreadable."""
    is_left_out: bool = False
    """Whether finance leaves it out."""
    is_unexplained: bool = False
    """Whether finance leaves it out because an event changed amounts without naming the change."""
    believed: AggregateState | None = None
    """If so: the state in OLTP with finance's amounts; None: it cannot be computed."""


@dataclass(frozen=True, kw_only=True)
class ViewEvidence:
    """The state of a read model for one pod."""

    empty_tables: frozenset[str] = frozenset()
    """Tables without a single row of the pod."""
    has_gap: bool = False
    """Whether the log lacks the view's next cut: it was trimmed or lost, or the view's position is above every cut."""
    parked: frozenset[str] = frozenset()
    """Aggregates with parked events."""


@dataclass(frozen=True, kw_only=True)
class LostEvent:
    """An event that the log, the lake or its backup has, but the outbox does not any more."""

    event_id: str | None
    """None: a manifest counts the event, but no store has it any more."""
    aggregate_key: str | None
    cut: int

    def sentence(self, pod: str) -> str:
        """Return why the log is not republished, as a sentence."""
        event = f"event {self.event_id} of {self.aggregate_key}" if self.event_id else "an event"
        return (
            f"The outbox of {pod} no longer has {event} of cut {self.cut}, which was published: its row was deleted. "
            "The log is not written again without it (docs/runbooks/log.md)."
        )


@dataclass(frozen=True, kw_only=True)
class PodEvidence:
    """The evidence from one pod and its copies, for the claimed breaks."""

    pod: str
    base_cut: int
    """The outbox is pruned through this cut; 0: nothing is pruned."""
    lake_reset_cut: int | None
    """The cut to reset the lake's position to, when it is above every cut; None: it is not."""
    built_cut: int
    """The cut of the newest complete build of the warehouse; 0: there is no build."""
    begun_after_cut: int | None = None
    """The cut after which builds read events that have begun since the newest complete one; None: none has begun."""
    aggregates: Mapping[str, AggregateEvidence] = field(default_factory=dict)
    damages: tuple[EventDamage, ...] = ()
    """Of the pod's own events."""
    damages_elsewhere: tuple[EventDamage, ...] = ()
    """Of other pods' events of aggregates that have moved."""
    event_cuts: Mapping[str, int] = field(default_factory=dict)
    """Event id -> cut, for every event of the pod that was read."""
    events_elsewhere: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Event id -> (pod, cut), for other pods' events of aggregates that have moved."""
    wrong_log_cuts: frozenset[int] = frozenset()
    """Those cuts named by breaks of the log whose content in the log is not what was published."""
    disputed_event: str | None = None
    """An event whose outbox row was changed, so that a person must decide; until then the log is not republished."""
    views: Mapping[str, ViewEvidence] = field(default_factory=dict)
    lake_parked: frozenset[str] = frozenset()
    lost_event: LostEvent | None = None
    """An event that would be lost if the log were republished from the outbox."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Aggregate key -> why the newest complete build leaves it out."""
    gaps: Mapping[str, int] = field(default_factory=dict)
    """Copy -> its next cut, for copies whose next cut the log does not have."""
    backed_up_cut: int = 0
    """The verified backup of the lake has all cuts up to this one."""
    is_logged_after_backup: bool = False
    """Whether the log has the cut after `backed_up_cut`, or there is no later cut."""

    def home(self, key: str | None) -> str:
        """Return the pod that has the aggregate's row."""
        known = None if key is None else self.aggregates.get(key)
        return self.pod if known is None else known.home

    def cuts_of_event(self, event_id: str) -> dict[str, int]:
        """Return pod -> cut of an event, of whichever pod it is; empty: it is unknown."""
        if event_id in self.event_cuts:
            return {self.pod: self.event_cuts[event_id]}
        return dict([self.events_elsewhere[event_id]]) if event_id in self.events_elsewhere else {}

    def parked_in(self, projection: str) -> frozenset[str]:
        """Return the keys of the aggregates with parked events in the lake or in a view."""
        return self.lake_parked if projection == "lake" else self.views[projection].parked


Evidence = Mapping[str, PodEvidence]
"""Pod -> its evidence."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of a run; what exceeds them is escalated to a person."""

    breaks_max: int = 10_000
    """Largest number of breaks that one run claims."""
    actions_max: int = 100
    """Largest number of actions within an hour, over all runs."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One step of a repair; it uses the write path of the store that it changes."""

    kind: ActionKind
    store: str
    pod: str
    """For a build, which covers all pods: the pods whose breaks caused it, separated by commas."""
    keys: tuple[str, ...]
    """Event ids for the lake, aggregate keys otherwise; empty: everything."""
    causes: tuple[int, ...]
    """Ids of the breaks that it should repair."""
    why: str
    cuts: tuple[int, ...] = ()
    source: Source | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    """For restatements: aggregate key -> its newest version with an event."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """For restatements: aggregate key -> digest of the read state. If the state has changed, nothing is written."""
    again: tuple[str, ...] = ()
    """For restatements: aggregates that a person has approved although their newest event equals the row."""
    since: Mapping[str, int] = field(default_factory=dict)
    """For a build: pod -> the cut after which everything is built again."""
    is_full: bool = False
    """For a build: whether it is a full build."""
    tables: tuple[str, ...] = ()
    """For a build: the stored tables that are built again, where the newest complete build stands; empty: everything,
    up to the newest cuts."""
    takes_lake_position: bool = False
    """For a whole view: whether it takes over the lake's position, because the log does not reach back to its own."""

    @property
    def where(self) -> str:
        """Return store and pod, as tables show them."""
        return f"{self.store} of {self.pod}"


@dataclass(frozen=True, kw_only=True)
class Escalation:
    """Breaks that code must not or cannot repair, and why; people decide."""

    break_ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan for some breaks."""

    actions: tuple[Action, ...] = ()
    """Actions in the order of execution."""
    escalations: tuple[Escalation, ...] = ()
    deferred: tuple[int, ...] = ()
    """Breaks beyond the budget."""
    in_order: tuple[int, ...] = ()
    """Breaks for which the evidence shows nothing wrong any more; they are only compared again."""
    maybe_built: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Pod -> keys of aggregates whose events were wrong in the lake: a build may have read them so. What the warehouse
    stores of them is compared after the repair, and only what differs is built again."""

    def followed_by(self, more: Plan) -> Plan:
        """Return the plan of a run that goes on with another plan."""
        return replace(
            self,
            actions=(*self.actions, *more.actions),
            escalations=(*self.escalations, *more.escalations),
            deferred=tuple(sorted({*self.deferred, *more.deferred})),
            in_order=tuple(sorted({*self.in_order, *more.in_order})),
        )
