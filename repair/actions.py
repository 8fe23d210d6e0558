"""Executes one action of a plan through the write path of the store, and reads the store before and after it.

Every action is idempotent: after an interruption it can be executed again, and changes only what is still wrong.
Belongs here: which function of which store executes an action. Does not belong here: when (`repair/repair_run.py`), the
audit (`repair/audit.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from contracts.errors import ConflictError, InputError
from contracts.ownership import copy_named
from contracts.settings import Settings
from derived.builds import latest_build
from derived.known_cuts import cut_sources_of
from derived.lake_connection import open_lake
from derived.lake_reads import lake_positions
from derived.webhooks.again import note_again, noted
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.restate import Restate
from repair import lake_actions, serving
from repair.evidence.gathering import view_rows
from repair.tools import Repairing
from repair.values import KEYS_SHOWN, Action, ActionKind
from streams.lock_takeover import republish_now
from streams.log import EventLog
from streams.logs import build_log
from streams.parking import replay_parked
from streams.projection import ReplayableProjection
from streams.step_planning import floor_cut

if TYPE_CHECKING:
    from derived.keyed.projection import KeyedProjection


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of an action."""

    after: Mapping[str, Any]
    """The state after the action, as JSON, for the audit."""
    changed: int | None
    """Number of changed rows, events, cuts or aggregates; 0: everything was already right. None: it is not known."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Aggregate key -> why it could not be repaired; a person decides."""


def look(tools: Repairing, action: Action) -> dict[str, Any]:
    """Return the present state of what an action changes, for the audit; bounded. It changes nothing."""
    return LOOKS[action.kind](tools, action)


def act(tools: Repairing, action: Action, run: str) -> Done:
    """Execute an action. Raises what the store raises; then a second call does what is left."""
    return ACTS[action.kind](tools, action, run)


def _look_at_log(tools: Repairing, action: Action) -> dict[str, Any]:
    with closing(build_log(tools.settings)) as log:
        tail = log.tail(action.pod, 1)
    return {"generation": tail.generation, "newest_cut": tail.manifest_cut}


def _republish(tools: Repairing, action: Action, run: str) -> Done:
    cut_sources = cut_sources_of(tools.settings)
    done = republish_now(tools.settings.pod(action.pod), tools.settings, action.cuts[0], cut_sources=cut_sources)
    after = {"cuts_published": done.cuts_published, "events_published": done.events_published}
    return Done(after={**after, **_look_at_log(tools, action)}, changed=done.cuts_published)


def _look_at_events(tools: Repairing, action: Action) -> dict[str, Any]:
    return lake_actions.rows_of(tools.settings, action)


def _mend_events(tools: Repairing, action: Action, run: str) -> Done:
    changed = lake_actions.mend(tools.settings, action)
    return Done(after={**changed, **_look_at_events(tools, action)}, changed=changed["rows_changed"])


def _look_at_lake_position(tools: Repairing, action: Action) -> dict[str, Any]:
    with open_lake(tools.settings, read_only=True) as lake:
        positions = lake_positions(lake, action.pod)
    return {"positions": {str(number): position.cut for number, position in sorted(positions.items())}}


def _set_lake_position(tools: Repairing, action: Action, run: str) -> Done:
    is_changed = lake_actions.set_position(tools.settings, action)
    return Done(after=_look_at_lake_position(tools, action), changed=int(is_changed))


def _load_cuts(tools: Repairing, action: Action, run: str) -> Done:
    before = _look_at_lake_position(tools, action)
    events = lake_actions.load(tools.settings, action)
    after = _look_at_lake_position(tools, action)
    return Done(after={**after, "events": events}, changed=max(events, int(after != before)))


def _look_at_parked(tools: Repairing, action: Action) -> dict[str, Any]:
    store = cast("ReplayableProjection", tools.projection(action.store))
    parked = store.parked_events(action.pod, action.keys)
    shown = {event.event_id: event.error for event in parked[:KEYS_SHOWN]}
    return {"parked_events": len(parked), "errors": shown}


def _replay(tools: Repairing, action: Action, run: str) -> Done:
    store = cast("ReplayableProjection", tools.projection(action.store))
    with closing(build_log(tools.settings)) as log:
        moment = data_at(store, action.pod, log)
    if moment is None:
        return Done(after={"replayed_events": 0, "parked_events": 0}, changed=0)
    done = replay_parked(store, action.pod, moment, keys=action.keys, clock=tools.clock)
    after = {"replayed_events": done.replayed_events, **_look_at_parked(tools, action)}
    errors = {event.aggregate_key: event.error for event in reversed(store.parked_events(action.pod, action.keys))}
    still = {key: STILL_PARKED.format(key=key, error=errors.get(key, "")) for key in done.still_parked}
    refused = {key: why for key, why in still.items() if key in action.keys}
    return Done(after=after, changed=done.replayed_events, refused=refused)


STILL_PARKED = "The parked events of {key} still cannot be applied: {error}"


def data_at(store: ReplayableProjection, pod: str, log: EventLog) -> datetime | None:
    """Return when the newest cut of a store was registered; None when nothing is parked.

    If the log has no manifest of that cut any more, the result is an earlier time: that of the newest parked event.
    """
    parked = store.parked_events(pod)
    if not parked:
        return None
    cut = floor_cut(store.state(pod).positions)
    at_cut = [manifest for manifest in log.manifests(pod, cut - 1, limit=1) if manifest.cut == cut] if cut else []
    return at_cut[0].registered_at if at_cut else max(cast("datetime", one.event["recorded_at"]) for one in parked)


def _look_at_roots(tools: Repairing, action: Action) -> dict[str, Any]:
    return {"newest_event_versions": {key: action.versions.get(key, 0) for key in action.keys[:KEYS_SHOWN]}}


def _restate(tools: Repairing, action: Action, run: str) -> Done:
    stated: dict[str, Any] = {}
    refused: dict[str, str] = {}
    published = 0
    with build_command_pod(tools.settings.pod(action.pod), connections_max=2) as pod:
        for key in action.keys:
            try:
                answer = _restate_one(pod, key, action, run)
            except (ConflictError, InputError) as error:
                refused[key] = str(error)
                continue
            published += answer.is_published
            if len(stated) < KEYS_SHOWN:
                stated[key] = {"version": answer.version, "changed": answer.changed, "published": answer.is_published}
    after = {"restated": published, "refused": len(refused), "aggregates": stated}
    return Done(after=after, changed=published, refused=refused)


def _restate_one(pod: CommandPod, key: str, action: Action, run: str) -> Any:
    merchant_id, aggregate_type, aggregate_id = key.split("/", 2)
    command = Restate(
        merchant_id=merchant_id,
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        cause=f"break {min(action.causes)}, repair {run}",
        published_version=action.versions.get(key),
        shown_digest=action.digests.get(key),
        says_again=key in action.again,
    )
    # The key has the run's name: a retry of the run is idempotent, and a later repair of new damage is a new command.
    return execute(pod, command, idempotency_key=f"repair/{run}/{key}")


def _look_at_view(tools: Repairing, action: Action) -> dict[str, Any]:
    positions = tools.projection(action.store).state(action.pod).positions
    shown = {str(number): position.cut for number, position in sorted(positions.items())}
    if action.kind is not ActionKind.REBUILD_VIEW:  # of a large view, counting takes longer than mending some rows
        return {"positions": shown}
    return {"rows": dict(view_rows(tools.settings, copy_named(action.store), action.pod)), "positions": shown}


def _rebuild(tools: Repairing, action: Action, run: str) -> Done:
    view = cast("KeyedProjection", tools.projection(action.store))
    if action.kind is ActionKind.REBUILD_VIEW:
        done = view.rebuild_all(action.pod, is_lake_position_taken=action.takes_lake_position, is_change_told=True)
    else:
        done = view.rebuild(action.pod, action.keys)
    rebuilt = {"aggregates": done.aggregates, "rows_before": done.rows_before, "left_parked": len(done.skipped_keys)}
    return Done(after={**rebuilt, **_look_at_view(tools, action)}, changed=done.changed)


def _look_at_carts(tools: Repairing, action: Action) -> dict[str, Any]:
    return serving.carts_of(tools.settings, action)


def _merge_carts(tools: Repairing, action: Action, run: str) -> Done:
    merged = serving.merge_carts(tools.settings, action)
    return Done(after={"merged": merged, **_look_at_carts(tools, action)}, changed=merged)


def _look_at_answers(tools: Repairing, action: Action) -> dict[str, Any]:
    return serving.answers_of(tools.settings, action)


def _drop_answers(tools: Repairing, action: Action, run: str) -> Done:
    dropped = serving.drop_answers(tools.settings, action)
    return Done(after={"dropped": dropped, **_look_at_answers(tools, action)}, changed=dropped)


def _look_at_warehouse(tools: Repairing, action: Action) -> dict[str, Any]:
    return _latest(tools.settings)


def _build(tools: Repairing, action: Action, run: str) -> Done:
    since = {pod: max(0, cut) for pod, cut in action.since.items()}
    stands = tools.build(since, action.is_full, action.tables)
    computed: dict[str, Any] = {"since": since} if not action.is_full else {"since": "nothing"}
    computed |= {"tables": list(action.tables)} if action.tables else {}
    return Done(after={**computed, "stands_at": dict(stands), **_latest(tools.settings)}, changed=None)


def _latest(settings: Settings) -> dict[str, Any]:
    with open_lake(settings, read_only=True) as lake:
        latest = latest_build(lake)
    return {} if latest is None else {"build_id": latest.build_id, "cuts": dict(latest.cuts)}


def _look_at_notes(tools: Repairing, action: Action) -> dict[str, Any]:
    return {"notes": noted(tools.settings.control_dsn, action.keys[:KEYS_SHOWN])}


def _redeliver(tools: Repairing, action: Action, run: str) -> Done:
    with open_lake(tools.settings, read_only=True) as lake:
        told, withdrawn = note_again(lake, tools.settings.control_dsn, action.pod, action.keys)
    after = {"told_again": told, "withdrawn": withdrawn, **_look_at_notes(tools, action)}
    return Done(after=after, changed=told + withdrawn)


Look = Callable[[Repairing, Action], dict[str, Any]]
Act = Callable[[Repairing, Action, str], Done]

EVENT_ACTIONS: Sequence[ActionKind] = (
    ActionKind.RESTORE_EVENTS,
    ActionKind.REPLACE_EVENTS,
    ActionKind.REMOVE_DUPLICATES,
    ActionKind.REMOVE_EXTRA_EVENTS,
)
LOOKS: Mapping[ActionKind, Look] = {
    ActionKind.REPUBLISH: _look_at_log,
    ActionKind.SET_LAKE_POSITION: _look_at_lake_position,
    ActionKind.LOAD_CUTS: _look_at_lake_position,
    **dict.fromkeys(EVENT_ACTIONS, _look_at_events),
    ActionKind.REPLAY_PARKED: _look_at_parked,
    ActionKind.RESTATE: _look_at_roots,
    ActionKind.REBUILD_KEYS: _look_at_view,
    ActionKind.REBUILD_VIEW: _look_at_view,
    ActionKind.MERGE_CARTS: _look_at_carts,
    ActionKind.DROP_ANSWERS: _look_at_answers,
    ActionKind.REDELIVER: _look_at_notes,
    ActionKind.BUILD: _look_at_warehouse,
}
ACTS: Mapping[ActionKind, Act] = {
    ActionKind.REPUBLISH: _republish,
    ActionKind.SET_LAKE_POSITION: _set_lake_position,
    ActionKind.LOAD_CUTS: _load_cuts,
    **dict.fromkeys(EVENT_ACTIONS, _mend_events),
    ActionKind.REPLAY_PARKED: _replay,
    ActionKind.RESTATE: _restate,
    ActionKind.REBUILD_KEYS: _rebuild,
    ActionKind.REBUILD_VIEW: _rebuild,
    ActionKind.MERGE_CARTS: _merge_carts,
    ActionKind.DROP_ANSWERS: _drop_answers,
    ActionKind.REDELIVER: _redeliver,
    ActionKind.BUILD: _build,
}
