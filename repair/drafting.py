"""Builds a plan: collects what breaks need, merges it into few actions, orders them, and applies the budget.

Belongs here: merging and order. Does not belong here: which break needs what (`repair/plan.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from contracts.breaks import Break
from contracts.ownership import ANSWER_CACHE, CART
from repair.building import Builds, Need, causes_of
from repair.remedies import Remedy, disputed_event
from repair.values import Action, ActionKind, DamageKind, Escalation, EventDamage, Evidence, Plan, PodEvidence, Source

KEYS_REBUILT_MAX = 1_000
"""A view with more wrong aggregates than this is rebuilt completely."""
KEYS_RESTATED_MAX = 100
"""Largest number of aggregates in one action; each of them is a command of its own."""

LAKE_ACTIONS = {
    DamageKind.MISSING: (ActionKind.RESTORE_EVENTS, "the lake lacks events that left the pod"),
    DamageKind.ALTERED: (ActionKind.REPLACE_EVENTS, "the lake's events are not what left the pod"),
    DamageKind.DUPLICATE: (ActionKind.REMOVE_DUPLICATES, "the lake has events more than once"),
    DamageKind.EXTRA: (ActionKind.REMOVE_EXTRA_EVENTS, "the lake has events that never left the pod"),
}
SERVING = {
    ActionKind.MERGE_CARTS: (CART.name, "one store of a cart lacks what the other has"),
    ActionKind.DROP_ANSWERS: (ANSWER_CACHE.name, "the cache would serve what no load has made, or too old an answer"),
}
ORDER = list(ActionKind)

PRUNED = (
    "Cut {cut} of {pod} is pruned from the outbox, so the log cannot be given it again. The lake has it: rebuild what "
    "still needs it (docs/runbooks/log.md)."
)
NOT_AGAIN = (
    "The log of {pod} is to be written again from the outbox, whose event {event} is not what log and lake have. "
    "Settle that one first, then open this one again."
)
SUM_OF = "It is a sum over rows that cannot be mended: {reason}"


_Keyed = defaultdict[str, Need]


def _keyed() -> _Keyed:
    return defaultdict(Need)


class Draft:
    """Collects what every break needs; `finished` returns the plan."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._escalated: defaultdict[str, set[int]] = defaultdict(set)
        self._in_order: set[int] = set()
        self._republished: defaultdict[str, Need] = defaultdict(Need)
        self._events: defaultdict[tuple[str, DamageKind, Source | None], _Keyed] = defaultdict(_keyed)
        self._loaded: defaultdict[str, Need] = defaultdict(Need)
        self._replayed: defaultdict[tuple[str, str], _Keyed] = defaultdict(_keyed)
        self._restated: defaultdict[str, _Keyed] = defaultdict(_keyed)
        self._rebuilt: defaultdict[tuple[str, str], _Keyed] = defaultdict(_keyed)
        self._rebuilt_whole: set[tuple[str, str]] = set()
        self._redelivered: defaultdict[str, _Keyed] = defaultdict(_keyed)
        self._served: defaultdict[tuple[ActionKind, str], _Keyed] = defaultdict(_keyed)
        self._builds = Builds(evidence)
        self._sums: list[Break] = []
        self._remedies: defaultdict[str, list[Remedy]] = defaultdict(list)

    def escalate(self, item: Break, reason: str) -> None:
        """Escalate the break to a person."""
        self._escalated[reason].add(item.break_id)

    def in_order(self, item: Break) -> None:
        """Record that the evidence shows nothing wrong for the break any more."""
        self._in_order.add(item.break_id)

    def remedy(self, item: Break, remedy: Remedy, *, is_enough: bool = True) -> bool:
        """Request what the break's aggregate needs; return False when a person must act.

        With `is_enough`, a break whose aggregate needs nothing is in order. Without it, the caller requests a repair of
        the copy.
        """
        self._remedies[item.merchant_id or item.pod].append(remedy)
        if remedy.refusal:
            self.escalate(item, remedy.refusal)
            return False
        for damage in remedy.damages:
            self._mend(item, damage)
        if remedy.restated_key is not None:
            self._restated[remedy.restated_in][remedy.restated_key].causes.add(item.break_id)
        if is_enough and not remedy.is_needed:
            self.in_order(item)
        return True

    def republish(self, item: Break, cut: int, pod: PodEvidence, *, is_lost: bool = False) -> None:
        """Request to republish the log from `cut` on, unless its content is right; `is_lost`: it is known lost."""
        if not is_lost and cut not in pod.wrong_log_cuts:
            self.in_order(item)
            return
        if cut <= pod.base_cut:
            self.escalate(item, PRUNED.format(cut=cut, pod=pod.pod))
            return
        if event := disputed_event(pod):
            self.escalate(item, NOT_AGAIN.format(pod=pod.pod, event=event))
            return
        if lost := pod.lost_event:
            self.escalate(item, lost.sentence(pod.pod))
            return
        need = self._republished[item.pod]
        need.causes.add(item.break_id)
        need.cuts.add(cut)

    def load(self, item: Break, needed: int, pod: PodEvidence) -> None:
        """Request to load all cuts from `needed` on that the lake's backup has; later ones are in log or outbox."""
        need = self._loaded[item.pod]
        need.causes.add(item.break_id)
        need.cuts |= {needed, pod.backed_up_cut}
        if not pod.is_logged_after_backup:
            # If republishing is refused, the break is escalated with the reason, but loading still brings the lake
            # forward.
            self.republish(item, pod.backed_up_cut + 1, pod, is_lost=True)
        if needed <= pod.built_cut:
            self._builds.ask_for_all(item.pod, {item.break_id}, {needed})

    def replay(self, item: Break, projection: str) -> None:
        """Request to replay the parked events of the break's aggregate."""
        self._replayed[item.pod, projection][item.aggregate_key or ""].causes.add(item.break_id)

    def rebuild(self, item: Break, view: str, pod: PodEvidence) -> None:
        """Request to rebuild the break's aggregate, or the whole view if a table is empty or the log has a gap."""
        place, known = (item.pod, view), pod.views[view]
        self._rebuilt[place][item.aggregate_key or ""].causes.add(item.break_id)
        if item.aggregate_key is None or item.entity in known.empty_tables or known.has_gap:
            self._rebuilt_whole.add(place)

    def redeliver(self, item: Break) -> None:
        """Request that what a merchant's endpoint is told of an event becomes what the lake says."""
        key = "/".join(part or "" for part in item.key)
        self._redelivered[item.pod][key].causes.add(item.break_id)

    def merge_cart(self, item: Break) -> None:
        """Request to merge the break's cart both ways."""
        self._served[ActionKind.MERGE_CARTS, item.pod][item.aggregate_key or ""].causes.add(item.break_id)

    def drop_answers(self, item: Break) -> None:
        """Request to drop the cached answers about the break's aggregate, or all if it has none."""
        self._served[ActionKind.DROP_ANSWERS, item.pod][item.aggregate_key or ""].causes.add(item.break_id)

    def build(self, item: Break, cuts: Mapping[str, int], table: str | None = None) -> None:
        """Request to build the marts from `cuts` (by pod) on; a full build if there are none or that was tried.

        `table`: a build of this stored table is enough.
        """
        self._builds.ask(item, cuts, table)

    def build_sum(self, item: Break, cuts: Mapping[str, int]) -> None:
        """Request a repair of a sum. Without `cuts`, the decision waits: a repair of the sum's rows may be enough."""
        if cuts:
            self.build(item, cuts)
        else:
            self._sums.append(item)

    def finished(self, beyond: Sequence[int], actions_max: int) -> Plan:
        """Return the plan. Breaks of actions beyond `actions_max` are deferred, together with `beyond`."""
        self._builds.ask_for_damage(
            (pod, kind, need) for (pod, kind, _), needs in self._events.items() for need in needs.values()
        )
        for item in self._sums:
            self._decide_sum(item)
        actions = sorted(self._actions(), key=lambda action: (ORDER.index(action.kind), action.pod))
        kept, cut_off = actions[:actions_max], actions[actions_max:]
        late = {cause for action in cut_off for cause in action.causes}
        escalations = [
            Escalation(break_ids=tuple(sorted(ids)), reason=reason) for reason, ids in sorted(self._escalated.items())
        ]
        return Plan(
            actions=tuple(kept),
            escalations=tuple(escalations),
            deferred=tuple(sorted({*beyond, *late})),
            in_order=tuple(sorted(self._in_order)),
            maybe_built=self._builds.maybe_built(),
        )

    def _mend(self, item: Break, damage: EventDamage) -> None:
        need = self._events[damage.pod, damage.kind, damage.source][damage.event_id]
        need.causes.add(item.break_id)
        need.cuts.add(damage.cut)
        need.aggregates |= {damage.aggregate_key, *damage.held_as}

    def _decide_sum(self, item: Break) -> None:
        """Decide about a sum: a repair of its rows also repairs the sum; without one, the marts are built again."""
        remedies = self._remedies[item.merchant_id or item.pod]
        refusal = next((remedy.refusal for remedy in remedies if remedy.refusal), "")
        if refusal and not self._builds.has(item.pod):
            self.escalate(item, SUM_OF.format(reason=refusal))
            return
        restated = [(remedy.restated_in, key) for remedy in remedies if (key := remedy.restated_key) is not None]
        if restated and item.repairs <= 1:
            pod, key = restated[0]
            self._restated[pod][key].causes.add(item.break_id)
            return
        self._builds.ask_for_sum(item)

    def _actions(self) -> Iterator[Action]:
        yield from self._log_actions()
        yield from self._position_actions()
        yield from self._loads()
        yield from self._lake_actions()
        yield from self._replays()
        yield from self._restatements()
        yield from self._rebuilds()
        yield from self._redeliveries()
        yield from self._services()
        yield from self._builds.actions()

    def _log_actions(self) -> Iterator[Action]:
        for pod, need in self._republished.items():
            yield Action(
                kind=ActionKind.REPUBLISH,
                store="log",
                pod=pod,
                keys=(),
                cuts=(min(need.cuts),),
                causes=tuple(sorted(need.causes)),
                why=f"the log does not hold what the outbox gives, from cut {min(need.cuts)} on",
            )

    def _position_actions(self) -> Iterator[Action]:
        missing: defaultdict[str, set[int]] = defaultdict(set)
        for (pod, kind, _), needs in self._events.items():
            if kind is DamageKind.MISSING:
                missing[pod] |= set(causes_of(needs.values()))
        for pod, causes in missing.items():
            reset_cut = self._evidence[pod].lake_reset_cut
            if reset_cut is not None:
                yield Action(
                    kind=ActionKind.SET_LAKE_POSITION,
                    store="lake",
                    pod=pod,
                    keys=(),
                    cuts=(reset_cut,),
                    causes=tuple(sorted(causes)),
                    why="the lake's position is beyond the pod's newest cut",
                )

    def _loads(self) -> Iterator[Action]:
        for pod, need in self._loaded.items():
            yield Action(
                kind=ActionKind.LOAD_CUTS,
                store="lake",
                pod=pod,
                keys=(),
                cuts=(min(need.cuts), max(need.cuts)),
                source=Source.BACKUP,
                causes=tuple(sorted(need.causes)),
                why="the lake needs cuts that are pruned, and its backup has them",
            )

    def _lake_actions(self) -> Iterator[Action]:
        for (pod, kind, source), needs in self._events.items():
            action, why = LAKE_ACTIONS[kind]
            reset_cut = self._evidence[pod].lake_reset_cut
            chosen: Mapping[str, Need] = needs
            if kind is DamageKind.MISSING and reset_cut is not None:
                # Events after the new position are not restored here, because the consumer applies them from the log.
                chosen = {event_id: need for event_id, need in needs.items() if min(need.cuts) <= reset_cut}
            if chosen:
                yield Action(
                    kind=action,
                    store="lake",
                    pod=pod,
                    keys=tuple(sorted(chosen)),
                    cuts=tuple(sorted({cut for need in chosen.values() for cut in need.cuts})),
                    source=source,
                    causes=causes_of(chosen.values()),
                    why=why,
                )

    def _replays(self) -> Iterator[Action]:
        for (pod, projection), needs in self._replayed.items():
            waiting = self._evidence[pod].parked_in(projection)
            yield Action(
                kind=ActionKind.REPLAY_PARKED,
                store=projection,
                pod=pod,
                # Also the parked aggregates that are not late yet: the cause is probably fixed, and nothing else
                # retries them.
                keys=tuple(sorted(waiting.union(needs))),
                causes=causes_of(needs.values()),
                why="events are parked for longer than the copy may be late",
            )

    def _restatements(self) -> Iterator[Action]:
        for pod, needs in self._restated.items():
            keys, known = sorted(needs), self._evidence[pod].aggregates
            for start in range(0, len(keys), KEYS_RESTATED_MAX):
                chosen = keys[start : start + KEYS_RESTATED_MAX]
                yield Action(
                    kind=ActionKind.RESTATE,
                    store="oltp",
                    pod=pod,
                    keys=tuple(chosen),
                    causes=causes_of(needs[key] for key in chosen),
                    versions={key: known[key].newest_version for key in chosen},
                    digests={key: known[key].digest for key in chosen},
                    again=tuple(key for key in chosen if known[key].is_stated and known[key].is_approved),
                    why="OLTP holds what no event says: a write bypassed the outbox",
                )

    def _rebuilds(self) -> Iterator[Action]:
        for (pod, view), needs in self._rebuilt.items():
            is_whole = (pod, view) in self._rebuilt_whole or len(needs) > KEYS_REBUILT_MAX
            yield Action(
                kind=ActionKind.REBUILD_VIEW if is_whole else ActionKind.REBUILD_KEYS,
                store=view,
                pod=pod,
                keys=() if is_whole else tuple(sorted(needs)),
                causes=causes_of(needs.values()),
                why="rows of the view are not what the lake says",
                takes_lake_position=is_whole and self._evidence[pod].views[view].has_gap,
            )

    def _redeliveries(self) -> Iterator[Action]:
        for pod, needs in self._redelivered.items():
            yield Action(
                kind=ActionKind.REDELIVER,
                store="webhooks",
                pod=pod,
                keys=tuple(sorted(needs)),
                causes=causes_of(needs.values()),
                why="what merchants were told is not what the lake says",
            )

    def _services(self) -> Iterator[Action]:
        for (kind, pod), needs in self._served.items():
            store, why = SERVING[kind]
            keys = () if "" in needs else tuple(sorted(needs))
            yield Action(kind=kind, store=store, pod=pod, keys=keys, causes=causes_of(needs.values()), why=why)
