"""Commands on parked events, for on-call: list them with copy and reason, show an aggregate's, retry or skip them.

Belongs here: `tieout parked ...` and what it prints. Does not belong here: parking and replaying
(`streams/parking.py`), when a comparison reports parked events as a difference (`reconcile/parked.py`).
"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer
from rich.markup import escape

from cli.commands.breaks import By
from cli.commands.stores import (
    InPod,
    Keys,
    check_keys,
    chosen_pods,
    keys_text,
    open_log,
    open_servers,
    safe,
    show_rows,
)
from cli.confirming import DryRun, Intent, Yes, is_agreed, is_said
from cli.console import answers, print_json, table
from cli.conventions import AsJson
from cli.saying import is_reason
from contracts.clock import utc_now
from contracts.errors import InputError
from contracts.ids import parts_of_key
from contracts.settings import Settings
from contracts.text import counted, visible
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS, VIEWS, build_projection

if TYPE_CHECKING:
    from streams.projection import ParkedEvent, ReplayableProjection

REASON_CHARACTERS = 200

OfCopies = Annotated[
    list[str] | None, typer.Argument(metavar="[COPY]...", help=f"Only these copies: {', '.join(PROJECTIONS)}.")
]

commands = typer.Typer(
    no_args_is_help=True,
    help="Events that a copy could not apply: they wait with the later ones of their aggregate, all others go on.",
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (("list", list_parked), ("show", show), ("retry", retry), ("skip", skip)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="parked")


def list_parked(
    copies: OfCopies = None,
    pod: InPod = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many aggregates.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the aggregates that wait, the longest first: in which copy, since when, and what could not be applied.

    In JSON: total, reasons[] {copy, pod, aggregate_type, reason, aggregates}, aggregates[] {copy, pod, aggregate_key,
    events, parked_at, event_id, event_type, cut, reason}.
    """
    found: list[dict[str, Any]] = []
    with open_servers() as (values, _):
        for name, in_pod, store in _stores(values, copies, pod):
            found += _aggregates(name, in_pod, store.parked_events(in_pod))
    found.sort(key=lambda one: (one["parked_at"], one["aggregate_key"]))
    reasons = _reasons(found)
    if as_json:
        print_json({"total": len(found), "reasons": reasons, "aggregates": found[:limit]})
        return
    _show_list(found, reasons, limit)


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The aggregate, as `list` names it: merchant/type/id.")],
    copies: OfCopies = None,
    pod: InPod = None,
    as_json: AsJson = False,
) -> None:
    """Show the events of one aggregate that wait, in every copy, with what is in them and why each waits."""
    check_keys([key])
    found: list[dict[str, Any]] = []
    with open_servers() as (values, _):
        for name, in_pod, store in _stores(values, copies, pod):
            found += [_event(name, in_pod, one) for one in store.parked_events(in_pod, [key])]
    if as_json:
        print_json(found)
        return
    console = answers()
    if not found:
        console.print(f"Nothing of {visible(key)} is parked.", markup=False)
    for one in found:
        console.print(
            f"{one['copy']} of {one['pod']}: {one['event_type']} (event {one['event_id']}, version "
            f"{one['aggregate_version']}, cut {one['cut']}), parked at {one['parked_at']:%Y-%m-%d %H:%M:%S} UTC",
            markup=False,
        )
        console.print(f"  {one['reason']}", markup=False)
        console.print_json(msgspec.json.encode(one["payload"]).decode(), indent=2)


def retry(
    projection: Annotated[str, typer.Argument(metavar="COPY", help=f"{', '.join(PROJECTIONS)}.")],
    pod: InPod = None,
    key: Keys = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Apply parked events again, in order, after what kept them from being applied was fixed and deployed.

    Safe beside running workers. An event that still cannot be applied stays parked, with its present error.
    """
    from repair.actions import data_at
    from streams.parking import replay_parked

    rows = []
    check_keys(key)
    with open_servers() as (values, progress):
        chosen = chosen_pods(values, pod)
        migrate_everything(values)
        store = cast("ReplayableProjection", build_projection(projection, values))
        parked = {one.pod: len(store.parked_events(one.pod, key or None)) for one in chosen}
        numbers = ", ".join(f"{number:,} in {name}" for name, number in parked.items())
        what = f"Parked events of {projection} are applied again ({numbers}): {keys_text(key)}."
        if not is_said(safe(what, "An event that still cannot be applied stays parked."), dry_run, as_json):
            return
        with open_log(values) as log:
            for one in chosen:
                with progress.step(f"Replaying parked events of {projection} in {one.pod}"):
                    moment = data_at(store, one.pod, log)
                    done = None if moment is None else replay_parked(store, one.pod, moment, keys=key)
                rows.append((one.pod, done.replayed_events if done else 0, len(done.still_parked) if done else 0))
    show_rows(as_json, f"Parked events of {projection}", ("pod", "replayed_events", "still_parked"), rows)


def skip(
    copy: Annotated[str, typer.Argument(metavar="COPY", help=f"{', '.join(VIEWS)}.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The aggregate, as `list` names it: merchant/type/id.")],
    reason: Annotated[str, typer.Option(callback=is_reason, help="Why the event may be passed over; kept with it.")],
    pod: InPod = None,
    by: By = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Pass over the first event of an aggregate that waits, for good, and apply those behind it.

    For an event that nothing will make readable. The copy then lacks what it says, until a later event says it again;
    it is compared at once, and what differs because of it becomes a break that you accept, with your reason. A rebuild
    passes it over, too. Of the lake nothing can be skipped: it is the history that everything is rebuilt from.
    """
    from repair.actions import data_at
    from stack.composition.skipping import accept_what_lacks
    from streams.parking import replay_parked

    check_keys([key])
    if copy not in VIEWS:
        raise InputError(f"Of {visible(copy)!r} nothing can be skipped; there are {', '.join(VIEWS)}.")
    if not reason.strip():
        raise InputError("Say why the event may be passed over: the reason is kept with it.")
    with open_servers() as (values, progress), closing(cast("Any", build_projection(copy, values))) as store:
        migrate_everything(values)
        waiting = [(one.pod, store.parked_events(one.pod, [key])) for one in chosen_pods(values, pod)]
        found = [(name, events) for name, events in waiting if events]
        if len(found) != 1:
            where = f"in {' and '.join(name for name, _ in found)}: say which with --pod" if found else "nowhere"
            raise InputError(f"{visible(key)} is parked in {copy} {where}.")
        ((in_pod, events),) = found
        if not is_agreed(_skipping(copy, in_pod, events), is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        who = by or getpass.getuser()
        store.skip(in_pod, events[0].event_id, reason=reason.strip(), by=who)
        with open_log(values) as log, progress.step(f"Applying what waits behind it in {in_pod}"):
            moment = data_at(store, in_pod, log)
            left = frozenset() if moment is None else replay_parked(store, in_pod, moment, keys=[key]).still_parked
        said = f"Event {events[0].event_id} was skipped in {copy}: {reason.strip()}"
        accepted = accept_what_lacks(values, progress, copy, in_pod, key, reason=said, by=who)
    is_parked = key in left
    if as_json:
        print_json({"skipped": events[0].event_id, "is_still_parked": is_parked, "accepted_breaks": accepted})
        return
    rest = " The next event of it cannot be applied either: look at it with `tieout parked show`." if is_parked else ""
    lacks = f"{counted(len(accepted), 'break')} accepted" if accepted else "the copy agrees with its owner all the same"
    answers().print(f"Skipped event {events[0].event_id}; {lacks}.{rest}", markup=False)


def _skipping(copy: str, pod: str, events: Sequence[ParkedEvent]) -> Intent:
    """Return the preview of a skip: the event, and the consequences."""
    first = _event(copy, pod, events[0])
    behind = counted(len(events) - 1, "event")
    return Intent(
        what=f"Event {first['event_id']} of {visible(str(first['aggregate_key']))} is passed over in {copy} of {pod}, "
        "for good.",
        question="Pass over it?",
        details=[
            f"It is {first['event_type']}, version {first['aggregate_version']}, of cut {first['cut']}.",
            f"It waits because: {_short(str(first['reason']))}",
            f"{behind} behind it will be applied, if they can be.",
        ],
        document={"skips": first, "applies": [one.event_id for one in events[1:]]},
    )


def _stores(
    values: Settings, copies: Sequence[str] | None, pod: str | None
) -> Iterator[tuple[str, str, ReplayableProjection]]:
    """Yield the chosen copies of the chosen pods; all where none is named."""
    for name in copies or ():
        if name not in PROJECTIONS:
            raise InputError(f"{visible(name)!r} parks no events; there are {', '.join(PROJECTIONS)}.")
    chosen = chosen_pods(values, pod)
    migrate_everything(values)  # creates the tables of parked events where no worker ever ran
    for name in PROJECTIONS:
        if copies and name not in copies:
            continue
        store = cast("ReplayableProjection", build_projection(name, values))
        with closing(cast("Any", store)):
            for one in chosen:
                yield name, one.pod, store


def _aggregates(copy: str, pod: str, events: Sequence[ParkedEvent]) -> list[dict[str, Any]]:
    """Return one entry for each aggregate; its reason is the error of its first parked event."""
    counts = Counter(one.aggregate_key for one in events)
    firsts: dict[str, ParkedEvent] = {}
    for one in events:
        firsts.setdefault(one.aggregate_key, one)
    return [
        {
            "copy": copy,
            "pod": pod,
            "aggregate_key": key,
            "events": counts[key],
            "parked_at": first.parked_at,
            "event_id": first.event_id,
            "event_type": first.event.get("event_type"),
            "cut": first.cut,
            "reason": first.error,
        }
        for key, first in firsts.items()
    ]


def _event(copy: str, pod: str, parked: ParkedEvent) -> dict[str, Any]:
    return {
        "copy": copy,
        "pod": pod,
        "aggregate_key": parked.aggregate_key,
        "event_id": parked.event_id,
        "event_type": parked.event.get("event_type"),
        "aggregate_version": parked.event.get("aggregate_version"),
        "schema_version": parked.event.get("schema_version"),
        "cut": parked.cut,
        "parked_at": parked.parked_at,
        "reason": parked.error,
        "payload": _payload(parked.event),
    }


def _payload(event: Mapping[str, object]) -> object:
    """Return an event's payload; as text if it is not JSON, which may be the reason why the event is parked."""
    text = str(event.get("payload", ""))
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _reasons(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the number of aggregates per reason, the largest first: one cause often parks many aggregates."""
    counts = Counter(
        (one["copy"], one["pod"], parts_of_key(one["aggregate_key"])[1], one["reason"]) for one in found
    ).most_common()
    names = ("copy", "pod", "aggregate_type", "reason")
    return [{**dict(zip(names, key, strict=True)), "aggregates": number} for key, number in counts]


def _show_list(found: Sequence[Mapping[str, Any]], reasons: Sequence[Mapping[str, Any]], limit: int) -> None:
    console = answers()
    if not found:
        console.print("Nothing is parked.")
        return
    if len(reasons) < len(found):
        rows = [
            (one["copy"], one["pod"], one["aggregate_type"], f"{one['aggregates']:,}", _short(one["reason"]))
            for one in reasons[:limit]
        ]
        console.print(table("Reasons", ("Copy", "Pod", "Type", "Aggregates", "Why"), rows, numbers_from=99))
    now = utc_now()
    waiting = [
        (
            one["copy"],
            one["pod"],
            escape(visible(one["aggregate_key"])),
            f"{one['events']:,}",
            f"{(now - one['parked_at']).total_seconds():,.0f}",
            _short(one["reason"]),
        )
        for one in found[:limit]
    ]
    headings = ("Copy", "Pod", "Aggregate", "Events", "Waits (s)", "Why the first of them")
    console.print(table("Parked", headings, waiting, numbers_from=99))
    rest = f"; {limit:,} are listed (--limit)" if len(found) > limit else ""
    console.print(
        f"{counted(len(found), 'aggregate waits', 'aggregates wait')}{rest}. `tieout parked show KEY` has the events "
        "of one, `tieout parked retry COPY` applies them again once the cause is mended."
    )


def _short(reason: str) -> str:
    text = visible(" ".join(reason.split()))
    return escape(text if len(text) <= REASON_CHARACTERS else f"{text[: REASON_CHARACTERS - 3]}...")
