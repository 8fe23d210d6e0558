"""`tieout webhooks`: how far merchants' endpoints are, letting a parked one go on, skipping a message,
telling events again.

Belongs here: these commands and what they print. Does not belong here: registering endpoints, which a merchant's admin
does over HTTP (`api/routes/webhooks.py`), sending (`derived/webhooks/`).
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.commands.breaks import By
from cli.confirming import DryRun, Intent, Yes, is_agreed
from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from cli.saying import is_reason
from cli.showing import shown
from contracts.errors import InputError
from contracts.text import counted, cuts_text
from contracts.verdicts import Verdict
from stack.composition import session

if TYPE_CHECKING:
    from derived.webhooks.again import Replay
    from derived.webhooks.skipping import Message
    from derived.webhooks.standing import PodStanding, Standing

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, as `tieout webhooks list` shows it.")]

commands = typer.Typer(no_args_is_help=True, help="Merchants' endpoints for webhooks.")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    for name, command in (("list", list_endpoints), ("resume", resume), ("replay", replay), ("skip", skip)):
        commands.command(name=name)(command)
    app.add_typer(commands, name="webhooks")


def list_endpoints(
    merchant: Annotated[str | None, typer.Option("--merchant", help="Only endpoints of this merchant.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say of each endpoint what waits for it, and up to which cut it is proven to have been told everything.

    Exit code 1: one is parked or full, or what is noted for it is not what the lake says.
    """
    from stack.composition.webhooks import standing_json, standings_of

    with session.open_session(ConsoleProgress()) as values:
        found = standings_of(values, merchant_id=merchant)
        if as_json:
            print_json({"endpoints": [standing_json(values, one) for one in found]})
    if not as_json:
        _show(found)
    if any(one.state in ("parked", "full") or _is_wrong(one) for one in found):
        raise typer.Exit(FAILED)


def _is_wrong(standing: Standing) -> bool:
    return any(pod.verdict is Verdict.INCONSISTENT for pod in standing.pods)


def _show(found: Sequence[Standing]) -> None:
    rows = [
        (
            one.endpoint_id,
            one.merchant_id,
            one.state,
            pod.pod,
            f"{pod.waiting:,}",
            f"{pod.oldest_waiting_at:%F %T}" if pod.oldest_waiting_at else "-",
            _complete(pod),
            str(pod.verdict),
        )
        for one in found
        for pod in one.pods
    ]
    headings = ("Endpoint", "Merchant", "State", "Pod", "Waiting", "Since (UTC)", "Complete to cut", "Verdict")
    answers().print(table("Endpoints", headings, rows, numbers_from=99))
    for one in found:
        if one.parked_at is not None:
            answers().print(f"{one.endpoint_id} is parked: {one.parked_because}", markup=False)
        for pod in one.pods:
            for first, last in pod.not_told:
                answers().print(f"{one.endpoint_id} was told nothing of cuts {first} to {last} of {pod.pod}.")
            for message in pod.skipped_messages:
                answers().print(
                    f"{one.endpoint_id} was not told {message.event_type} of {message.aggregate_type} "
                    f"{message.aggregate_id} (cut {message.cut} of {pod.pod}), which {message.skipped_by} skipped at "
                    f"{message.skipped_at:%F %T} UTC: {message.skipped_because}",
                    markup=False,
                )


def _complete(pod: PodStanding) -> str:
    return shown(pod.complete_to_cut) + (f" except {pod.skipped:,} skipped" if pod.skipped else "")


def resume(endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Let a parked endpoint go on: what waits for it is sent in its order, beginning now."""
    from stack.composition.webhooks import endpoint_store, standings_of

    with session.open_session(ConsoleProgress()) as values, endpoint_store(values) as store:
        (found,) = standings_of(values, endpoint_id=endpoint)
        store.resume(found.merchant_id, endpoint, idempotency_key=f"tieout-webhooks-{secrets.token_hex(8)}")
    waiting = sum(pod.waiting for pod in found.pods)
    if as_json:
        print_json({"endpoint_id": endpoint, "waiting": waiting})
    else:
        answers().print(f"{counted(waiting, 'message is', 'messages are')} sent to {endpoint} from now on.")


def replay(
    endpoint: EndpointId,
    since: Annotated[datetime | None, typer.Option(help="Tell events of this time (UTC) and later.")] = None,
    pod: Annotated[str | None, typer.Option(help="Tell events of this pod, from --from-cut on.")] = None,
    from_cut: Annotated[int | None, typer.Option(min=1, help="The first cut that is told.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Tell an endpoint its events again, from a time or a cut on. Each message has the id that it had before."""
    from contracts.clock import utc_now
    from stack.composition.webhooks import replay_json, replay_now

    if (since is None) == (from_cut is None) or (pod is None) != (from_cut is None):
        raise InputError("Name either --since, or --pod and --from-cut.")
    start: dict[str, Any] = {"pod": pod, "from_cut": from_cut}
    start["from_time"] = since.replace(tzinfo=utc_now().tzinfo) if since is not None else None
    with session.open_session(ConsoleProgress()) as values:
        planned = replay_now(values, endpoint, **start)
        intent = _intent(planned, {**replay_json(planned, is_preview=True), "dry_run": True})
        if not is_agreed(intent, is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        done = replay_now(values, endpoint, **start, is_preview=False)
    if as_json:
        print_json(replay_json(done, is_preview=False))
    else:
        answers().print(f"{counted(done.total, 'message waits', 'messages wait')} for {endpoint}.")


def _intent(planned: Replay, document: dict[str, Any]) -> Intent:
    return Intent(
        what=f"{counted(planned.total, 'message is', 'messages are')} sent to {planned.endpoint_id} once more. What "
        "was sent cannot be taken back.",
        question="Send them?",
        details=[
            *(f"{kind}: {number:,}." for kind, number in planned.events.items()),
            *(
                f"From {cuts_text({pod: first})} to {cuts_text({pod: last})}."
                for pod, (first, last) in planned.cuts.items()
            ),
        ],
        document=document,
    )


def skip(
    endpoint: EndpointId,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Its id (Webhook-Id), as the list shows it.")],
    reason: Annotated[
        str,
        typer.Option(callback=is_reason, help="Why the endpoint can never take it; kept, and shown to its merchant."),
    ],
    by: By = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Skip one message that a parked endpoint can never take, so that those after it can be told. Then let it go on.

    The endpoint is not told of it, and its standing says so, until a replay.
    """
    from stack.composition.webhooks import skip_now

    with session.open_session(ConsoleProgress()) as values:
        found = skip_now(values, endpoint, message, by="", reason=reason)
        if not is_agreed(_skipping(found, reason), is_yes=yes, is_dry_run=dry_run, as_json=as_json):
            return
        done = skip_now(values, endpoint, message, by=by or getpass.getuser(), reason=reason, is_preview=False)
    if as_json:
        print_json(asdict(done))
    else:
        answers().print(f"{endpoint} is not told {message}. Let it go on: `tieout webhooks resume {endpoint}`.")


def _skipping(found: Message, reason: str) -> Intent:
    tried = f"Tried {counted(found.attempts, 'time')}"
    since = f" since {found.first_failed_at:%F %T} UTC" if found.first_failed_at else ""
    answered = f"; the last answer was {found.last_status}" if found.last_status else ""
    return Intent(
        what=f"{found.endpoint_id} will not be told {found.event_type} of {found.aggregate_type} {found.aggregate_id} "
        f"(cut {found.cut} of {found.pod}): {reason}",
        question="Skip it?",
        details=[f"{tried}{since}{answered}.", "A replay tells it after all."],
        document={**asdict(found), "reason": reason, "dry_run": True},
    )
