"""Commands for on-call: restore one store from another when it was lost or is wrong.

Belongs here: these commands and what they print. Does not belong here: the repairs themselves (`derived/`, `streams/`),
deciding that one is needed (docs/runbooks/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cli.confirming import DryRun, Intent, Yes, is_agreed, is_said
from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import AsJson
from contracts.errors import InputError, PropagationError, RelayBusyError
from contracts.events import STATE_TYPES
from contracts.ids import parts_of_key
from contracts.ownership import WAREHOUSE
from contracts.progress import Progress
from contracts.settings import PodSettings, Settings
from contracts.text import counted, visible
from stack.composition import session
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS, VIEWS, build_projection
from stack.scrubbing import scrubber

if TYPE_CHECKING:
    from derived.keyed.projection import KeyedProjection
    from derived.keyed.rebuilding import Rebuilt
    from derived.lake_backup import Segment
    from streams.log import EventLog

InPod = Annotated[str | None, typer.Option("--pod", help="Only this pod, e.g. pod1; without it, all.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", help="Only this aggregate, as comparisons name it: merchant/type/id; may be repeated."),
]


def check_keys(keys: Sequence[str] | None) -> None:
    """Raise InputError for a text that is not an aggregate's key, or whose aggregate type is unknown."""
    for key in keys or ():
        _, aggregate_type, _ = parts_of_key(key)
        if aggregate_type not in STATE_TYPES:
            raise InputError(f"{visible(key)!r} is of no known type; the types are {', '.join(STATE_TYPES)}.")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (
        ("rebuild", rebuild),
        ("republish", republish),
        ("backup", backup),
        ("restore-lake", restore_lake),
        ("forget-projection", forget_projection),
    ):
        app.command(name)(command)


def rebuild(
    names: Annotated[
        list[str], typer.Argument(metavar="VIEW...", help=f"One or more of {', '.join(VIEWS)}; or {WAREHOUSE.name}.")
    ],
    pod: InPod = None,
    key: Keys = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make views or the warehouse what the lake says: after they were lost, or when a comparison found wrong rows.

    Safe beside running workers, and as often as wanted. Nothing else changes; a view's readers see the old rows until
    it is done. Several views are rebuilt at the same time, and the lake is read once for all of them. A view that was
    lost, or stood still for longer than the log reaches back, goes on from where the lake is. The warehouse is computed
    again wholly, from every event of the lake, over all pods.
    """
    if names == [WAREHOUSE.name]:
        _rebuild_warehouse(pod, key, as_json, is_dry_run=dry_run)
        return
    views = _views_named(names, key)
    rows, failures, shown = list[tuple[object, ...]](), list[str](), ", ".join(views)
    with open_servers() as (values, progress):
        chosen = chosen_pods(values, pod)
        what = f"{shown} of {', '.join(one.pod for one in chosen)} is built again from the lake: {keys_text(key)}."
        if not is_said(safe(what, "Its readers see the old rows until it is done."), dry_run, as_json):
            return
        with progress.step("Migrating"):
            migrate_everything(values)
        with ExitStack() as stack:
            log = stack.enter_context(open_log(values))
            models = [cast("KeyedProjection", build_projection(name, values)) for name in views]
            for model in models:
                stack.callback(model.close)
            for one in chosen:
                with progress.step(f"Rebuilding {shown} of {one.pod}"):
                    for name, done in _rebuild(values, models, one.pod, log, key).items():
                        if isinstance(done, Exception):
                            failures.append(f"{name} of {one.pod} was not rebuilt: {scrubber(values)(str(done))}")
                        else:
                            rows.append((name, one.pod, *_told(done)))
    columns = ("view", "pod", "aggregates", "rows_before", "cut", "left_parked")
    if rows:
        show_rows(as_json, f"{shown} as the lake has it", columns, rows)
    if failures:
        raise PropagationError(" ".join(failures))


def _views_named(names: Sequence[str], keys: Sequence[str] | None) -> list[str]:
    """Return the views with these names, each once; InputError for what cannot be rebuilt in this way."""
    views = list(dict.fromkeys(names))
    if unknown := [name for name in views if name not in VIEWS]:
        known = f"{', '.join(VIEWS)}, and {WAREHOUSE.name} by itself"
        raise InputError(f"{visible(unknown[0])!r} cannot be rebuilt; there are {known}.")
    if keys and len(views) > 1:
        raise InputError("Chosen aggregates are rebuilt in one view at a time.")
    check_keys(keys)
    return views


def safe(what: str, *details: str) -> Intent:
    """Return the preview of a command that loses no data and may be repeated."""
    document = {"what": what, "details": list(details), "dry_run": True}
    return Intent(what=what, question="", details=details, document=document)


def keys_text(keys: Sequence[str] | None) -> str:
    """Return the chosen aggregates in words."""
    return ", ".join(keys) if keys else "every key"


def _rebuild_warehouse(pod: str | None, key: Sequence[str] | None, as_json: bool, *, is_dry_run: bool) -> None:
    from stack.composition.builder import warm_builder

    if pod is not None or key:
        raise InputError("The warehouse is rebuilt as a whole: its marts stand at one cut of every pod together.")
    with open_servers() as (values, progress):
        what = "The warehouse of all pods is computed again from every event of the lake."
        if not is_said(safe(what, "Closed months stay as they are: their files are stored."), is_dry_run, as_json):
            return
        with progress.step("Migrating"):
            migrate_everything(values)
        with warm_builder(values) as builder, progress.step("Computing the warehouse from nothing"):
            built = builder.build_again(since={}, full_refresh=True)
    rows = [(name, cut, built.build_id, built.models, built.tests) for name, cut in sorted(built.cuts.items())]
    show_rows(as_json, "The warehouse as the lake has it", ("pod", "cut", "build_id", "models", "tests"), rows)


def _rebuild(
    values: Settings, models: Sequence[KeyedProjection], pod: str, log: EventLog, keys: Sequence[str] | None
) -> Mapping[str, Rebuilt | Exception]:
    """Rebuild views of a pod; of several views, one that fails does not stop the others."""
    from derived.keyed.projection import lake_opener
    from derived.keyed.together import rebuild_together
    from streams.lag import observe

    if keys:
        return {model.name: model.rebuild(pod, keys) for model in models}
    gaps = {model.name for model in models if observe(model, pod, log).state == "gap"}
    if len(models) == 1:
        return {model.name: model.rebuild_all(pod, is_lake_position_taken=bool(gaps)) for model in models}
    return rebuild_together(models, pod, lake_opener(values), taking_lake_position=gaps)


def _told(done: Rebuilt) -> tuple[int, int, int, int]:
    from streams.step_planning import floor_cut

    return done.aggregates, done.rows_before, floor_cut(done.position), len(done.skipped_keys)


def republish(
    pod: Annotated[str, typer.Argument(help="The pod whose log lost entries, e.g. pod1.")],
    from_cut: Annotated[int, typer.Option("--from-cut", min=1, help="The first cut that the log has lost.")],
    dry_run: DryRun = False,
    without_lost: Annotated[
        bool, typer.Option("--without-lost", help="Also if the outbox has lost events that copies have.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a pod's cuts into the log again, from the outbox, after the log lost some; views and lake go on from there.

    Stop the workers before (`tieout down`): the pod's relay must not run meanwhile. What a copy has already is not
    applied twice. Cuts whose outbox rows are pruned are in the lake only: the message says from which cut on it works.
    Refuses where log, lake or backup have an event that the outbox has lost, unless told otherwise.
    """
    from derived.known_cuts import cut_sources_of
    from streams.relay import build_relay

    with open_servers() as (values, progress):
        (chosen,) = chosen_pods(values, pod)
        what = f"The log of {pod} is written again from the outbox, from cut {from_cut} on."
        if not is_said(safe(what, "What a copy has already is not applied twice."), dry_run, as_json):
            return
        if not without_lost:
            _check_nothing_is_lost(values, chosen, from_cut)
        relay = build_relay(chosen, values, cut_sources=cut_sources_of(values))
        with closing(relay), progress.step(f"Republishing {pod} from cut {from_cut}"):
            try:
                done = relay.republish(from_cut)
            except RelayBusyError as error:
                raise PropagationError(f"{error} Stop it with `tieout down`, then republish.") from None
    row = (pod, from_cut, done.cut, done.cuts_published, done.events_published)
    show_rows(as_json, "Published again", ("pod", "from_cut", "through_cut", "cuts", "events"), [row])


def _check_nothing_is_lost(values: Settings, pod: PodSettings, from_cut: int) -> None:
    """Raise PropagationError if log, lake or backup have an event that the outbox lost; StackError if unknown."""
    from derived.lake_connection import open_lake
    from repair.evidence.unsent import lost_event
    from streams.reissue import unpruned_after

    with open_lake(values, read_only=True) as lake:
        lost = lost_event(lake, values, pod, max(from_cut, unpruned_after(pod) + 1))
    if lost is not None:
        raise PropagationError(f"{lost.sentence(pod.pod)} `--without-lost` writes it all the same.")


def backup(as_json: AsJson = False) -> None:
    """Write what is new in the lake to the backup folder, and verify it by reading it back.

    The schedule `outbox_pruning` does this too, and then prunes the outboxes. Nothing is pruned here.
    """
    from derived.retention import back_up_lake

    with open_servers() as (values, progress), progress.step(f"Backing up the lake to {values.lake_backup_path}"):
        segments = back_up_lake(values)
    _show_segments(as_json, "Backed up and verified", segments)


def restore_lake(
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop what is left of the lake's events first: files of it are lost.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Load the lake's backup into an empty lake, after its files or its catalog were lost; all of it or nothing.

    Stop the workers before (`tieout down`). Afterwards `tieout up` applies what came after the backup; the marts are
    built again by `tieout reconcile`. With --discard, what is dropped and what is loaded is shown, and somebody agrees.
    """
    from derived.lake_backup import restore
    from derived.lake_connection import bounds_of
    from derived.lake_schema import start_anew

    with open_servers() as (values, progress):
        discarding = None
        if discard:
            _check_nothing_is_only_in_the_lake(values)
        intent = _restoring(values, is_discarding=discard)
        if not (is_agreed(intent, is_yes=yes or not discard, is_dry_run=dry_run, as_json=as_json)):
            return
        if discard:
            names = [pod.pod for pod in values.pods]
            discarding = partial(start_anew, pods=names, partition_count=values.partition_count)
        else:
            with progress.step("Migrating"):
                migrate_everything(values)
        with progress.step(f"Restoring the lake from {values.lake_backup_path}"):
            segments = restore(
                values.catalog_dsn,
                values.lake_data_path,
                values.lake_backup_path,
                discarding=discarding,
                bounds=bounds_of(values),
            )
    _show_segments(as_json, "Restored", segments)


def _restoring(values: Settings, *, is_discarding: bool) -> Intent:
    from derived.lake_backup import read_index, verified_cuts

    reached, segments = verified_cuts(values.lake_backup_path), read_index(values.lake_backup_path)
    loaded = [
        f"Loaded for {pod}: {counted(sum(one.events for one in segments if one.pod == pod), 'event')}, up to cut {cut}."
        for pod, cut in sorted(reached.items())
    ]
    what = f"The lake's backup in {values.lake_backup_path} is loaded into an empty lake."
    if is_discarding:
        what = f"All events of the lake are dropped, for ever; the backup in {values.lake_backup_path} is loaded."
    details = [
        *(loaded or ["The backup holds nothing."]),
        "What came after the backup is applied again from the log and the outboxes; the marts are built again.",
    ]
    document = {"what": what, "details": details, "discard": is_discarding, "dry_run": True}
    return Intent(what=what, question="Drop the lake's events?", details=details, document=document)


def _check_nothing_is_only_in_the_lake(values: Settings) -> None:
    """Raise PropagationError if a pod's outbox is pruned beyond the last cut of the backup."""
    from derived.lake_backup import verified_cuts
    from streams.reissue import unpruned_after

    reached = verified_cuts(values.lake_backup_path)
    for pod in values.pods:
        pruned = unpruned_after(pod)
        if pruned > reached.get(pod.pod, 0):
            raise PropagationError(
                f"The outbox of {pod.pod} is pruned through cut {pruned}, and the backup in {values.lake_backup_path} "
                f"reaches cut {reached.get(pod.pod, 0)}: the lake alone has what is between; nothing was discarded."
            )


def forget_projection(
    name: Annotated[str, typer.Argument(help="The projection that no longer exists.")],
    pod: InPod = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a projection that no longer exists off the log's list, so that trimming does not wait for it."""
    if name in PROJECTIONS:
        raise InputError(f"{name} is part of this deployment; only a projection that was removed can be forgotten.")
    rows = []
    with open_servers() as (values, _), open_log(values) as log:
        chosen = chosen_pods(values, pod)
        if not is_agreed(_forgetting(name, chosen, log), is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        for one in chosen:
            was_known = name in [progress.projection for progress in log.progress(one.pod)]
            log.forget_projection(one.pod, name)
            rows.append((one.pod, was_known))
    show_rows(as_json, f"Forgotten: {name}", ("pod", "was_registered"), rows)


def _forgetting(name: str, chosen: Sequence[PodSettings], log: EventLog) -> Intent:
    stands = {one.pod: [known for known in log.progress(one.pod) if known.projection == name] for one in chosen}
    details = [
        f"{pod}: it has applied cut {known[0].applied_cut}, as it last said at {known[0].reported_at:%F %T} UTC."
        if known
        else f"{pod}: it is not on the list."
        for pod, known in stands.items()
    ]
    return Intent(
        what=f"{name} is taken off the log's list in {', '.join(stands)}, for ever: trimming no longer waits for it.",
        question=f"Forget {name}?",
        details=details,
        document={"projection": name, "details": details, "dry_run": True},
    )


@contextmanager
def open_servers() -> Iterator[tuple[Settings, Progress]]:
    """Yield the settings of running servers; errors of databases become a PropagationError without secrets."""
    import duckdb
    import psycopg

    from stack.scrubbing import scrubber

    progress = ConsoleProgress()
    with session.ended_by_signals(), session.open_session(progress) as values:
        try:
            yield values, progress
        except (duckdb.Error, psycopg.Error) as error:
            raise PropagationError(f"This could not be done: {scrubber(values)(str(error))}") from None


@contextmanager
def open_log(values: Settings) -> Iterator[EventLog]:
    """Open the deployment's log, and close it at the end of the block."""
    from streams.logs import build_log

    with closing(build_log(values)) as log:
        yield log


def chosen_pods(values: Settings, pod: str | None) -> Sequence[PodSettings]:
    """Return the pod of that name, or all pods for None; InputError names the known pods."""
    names = [one.pod for one in values.pods]
    if pod is not None and pod not in names:
        raise InputError(f"There is no pod {pod!r}; there are {', '.join(names)}.")
    return [one for one in values.pods if pod in (None, one.pod)]


def _show_segments(as_json: bool, title: str, segments: Sequence[Segment]) -> None:
    rows = [(one.pod, one.from_cut, one.through_cut, one.events, one.file) for one in segments]
    show_rows(as_json, title, ("pod", "from_cut", "through_cut", "events", "file"), rows)


def show_rows(as_json: bool, title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print what was done as a table, or as a list of JSON objects."""
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif rows:
        answers().print(table(title, [name.replace("_", " ").capitalize() for name in names], rows))
    else:
        answers().print("Nothing was new.")
