"""`tieout open-epoch`: lets a pod continue after its database was restored from a backup or a standby was promoted.

Belongs here: the command and what it prints. Does not belong here: what is taken back (`derived/epoch_opening.py`),
when to do so (docs/runbooks/epoch.md).
"""

from __future__ import annotations

import getpass
import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from cli.commands.stores import chosen_pods, open_log, open_servers
from cli.confirming import Intent, Yes, is_agreed
from cli.console import answers, print_json, table
from cli.conventions import AsJson
from contracts.progress import Progress
from contracts.settings import Settings
from stack.composition.migrations import migrate_everything
from stack.composition.projections import VIEWS, build_projection

if TYPE_CHECKING:
    from derived.epoch_opening import EpochPlan, Opened
    from derived.keyed.projection import KeyedProjection


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="open-epoch")(open_epoch)


def open_epoch(
    pod: Annotated[str, typer.Argument(help="The pod whose database was restored, promoted or moved, e.g. pod1.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken back, and do nothing.")] = False,
    yes: Yes = False,
    from_nothing: Annotated[
        bool, typer.Option("--from-nothing", help="Go on even if the copies have no cut in common with the database.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a pod go on from its present database, after a restore or a promotion; read docs/runbooks/epoch.md before.

    Stop the workers before (`tieout down`). What would be taken back is shown, and somebody agrees. Every copy goes
    back to the last cut that it has in common with the database; what came after is kept in the lake's
    `raw.retracted_events`. Interrupted, it is finished by running it again. In JSON: pod, epoch (null: none was
    opened), is_needed, base_cut, base_epoch, forgotten_cuts, copies[] {copy, stands_at_cut, events}.
    """
    with open_servers() as (values, progress):
        chosen_pods(values, pod)
        with progress.step("Migrating"):
            migrate_everything(values)
        done = _open(values, pod, progress, is_dry_run=dry_run, is_yes=yes, is_from_nothing_allowed=from_nothing)
    if as_json:
        print_json(as_document(done))
    else:
        _show(done, is_dry_run=dry_run)


def _open(
    values: Settings, pod: str, progress: Progress, *, is_dry_run: bool, is_yes: bool, is_from_nothing_allowed: bool
) -> Opened:
    from derived.epoch_opening import EpochOpener, Opened

    with ExitStack() as stack:
        log = stack.enter_context(open_log(values))
        views = [cast("KeyedProjection", build_projection(name, values)) for name in VIEWS]
        for view in views:
            stack.enter_context(closing(view))
        opener = EpochOpener(
            pod=values.pod(pod),
            settings=values,
            log=log,
            views=views,
            opened_by=f"{getpass.getuser()} on {socket.gethostname()}",
            step=lambda name: progress.note(STEPS[name]),
        )
        with progress.step(f"Comparing what {pod} and its copies know"):
            plan = opener.plan()
        if is_dry_run:
            return Opened(plan=plan, epoch=None)
        # Do not ask about a plan that cannot be executed: `open` refuses it below.
        if plan.is_needed and (is_from_nothing_allowed or not plan.is_from_nothing):
            is_agreed(_intent(plan), is_yes=is_yes, is_dry_run=False)
        return opener.open(is_from_nothing_allowed=is_from_nothing_allowed)


STEPS = {
    "record": "Recording the epoch in the pod.",
    "log": "Ending the log at the base.",
    "lake": "Taking the lake back.",
    **{view: f"Building {view} again where it went further." for view in VIEWS},
    "backup": "Ending the lake's backup at the base.",
    "complete": "Letting the epoch count.",
}
"""The message before each step of `derived.epoch_opening.EpochOpener`."""


def as_document(done: Opened) -> dict[str, object]:
    """Return the command's answer as JSON values."""
    plan = done.plan
    return {
        "pod": plan.pod,
        "epoch": done.epoch,
        "is_needed": plan.is_needed,
        "base_cut": plan.base_cut,
        "base_epoch": plan.base.epoch if plan.base else None,
        "forgotten_cuts": plan.forgotten_cuts,
        "copies": [vars(copy) for copy in plan.copies],
    }


def _show(done: Opened, *, is_dry_run: bool) -> None:
    plan = done.plan
    if not plan.is_needed:
        answers().print(f"{plan.pod} and its copies go on from each other as they are; there is no epoch to open.")
        return
    answers().print(_table(plan))
    answers().print(
        f"The database counts {plan.forgotten_cuts} registered cuts anew. "
        + ("Nothing was changed." if is_dry_run else f"Epoch {done.epoch} is open from cut {plan.base_cut + 1} on.")
    )


def _intent(plan: EpochPlan) -> Intent:
    return Intent(
        what=f"A new epoch of {plan.pod} will be opened, and its copies taken back to cut {plan.base_cut}, for ever.",
        question=f"Take the copies of {plan.pod} back?",
        details=[
            f"The database counts {plan.forgotten_cuts} registered cuts anew.",
            "What is taken back stays in the lake as evidence (raw.retracted_events), and is in no report.",
        ],
        tables=[_table(plan)],
    )


def _table(plan: EpochPlan) -> Table:
    title = f"{plan.pod}: the last common cut is {plan.base_cut}" if plan.base else f"{plan.pod}: no cut is in common"
    rows = [
        (copy.copy, copy.stands_at_cut, max(0, copy.stands_at_cut - plan.base_cut), _events(plan, copy.events))
        for copy in plan.copies
    ]
    return table(title, ("Copy", "Stands at cut", "Cuts taken back", "Events taken back"), rows)


def _events(plan: EpochPlan, events: int | None) -> str:
    return "built again from the lake" if events is None else f"{events:,}"
