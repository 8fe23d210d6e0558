"""The command `tieout repair`: repairs the breaks through the stores' own write paths, and compares again.

Belongs here: its options and what is printed. Does not belong here: the parts of a run
(`stack/composition/repairing.py`), what is repaired how (`repair/plan.py`), repairing one store by hand (`stores.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import ConsoleProgress, answers, print_json, table
from cli.conventions import FAILED, AsJson
from contracts.errors import InputError
from contracts.settings import Settings
from contracts.text import counted
from stack.composition import session
from stack.composition.migrations import migrate_everything

if TYPE_CHECKING:
    from repair.run_report import RepairReport
    from repair.values import Plan

KEYS_SHOWN = 3
BREAKS_MAX, ACTIONS_MAX = 10_000, 100


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command(name="repair")(repair)


def repair(
    pod: Annotated[list[str] | None, typer.Option(help="Only in this pod; may be repeated.")] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="Only of this pair or family of pairs; may be repeated.")
    ] = None,
    break_id: Annotated[list[int] | None, typer.Option("--break", help="Only this break; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done; nothing is changed.")] = False,
    budget_breaks: Annotated[int, typer.Option(min=1, help="How many breaks one run takes on.")] = BREAKS_MAX,
    budget_actions: Annotated[
        int, typer.Option(min=1, help="How many actions are done within an hour, over all runs.")
    ] = ACTIONS_MAX,
    as_json: AsJson = False,
) -> None:
    """Repair the open breaks that comparisons found: plan, apply, compare the same pairs again at a new cut.

    Safe beside running workers and without them. Everything goes through the stores' own write paths and is audited,
    with before and after. What code must not mend is handed to people. Exit code 0 only if nothing that was claimed is
    left different.
    """
    from reconcile.pairs import pairs_named
    from repair.repair_run import repair_breaks
    from repair.report_json import as_json as report_json
    from repair.values import Budget
    from stack.composition.repairing import repairing_tools

    progress = ConsoleProgress()
    pairs_named(pair)
    with session.ended_by_signals(), session.open_session(progress) as values:
        _check(values, pod)
        with progress.step("Migrating"):
            migrate_everything(values)
        with repairing_tools(values, progress, is_propagated=not dry_run) as tools, progress.step("Repairing"):
            report = repair_breaks(
                tools,
                budget=Budget(breaks_max=budget_breaks, actions_max=budget_actions),
                dry_run=dry_run,
                pods=pod,
                pairs=pair,
                break_ids=break_id,
            )
    if as_json:
        print_json(report_json(report))
    else:
        _show(report)
    if not dry_run and not report.is_clean:
        raise typer.Exit(FAILED)


def _check(values: Settings, pods: Sequence[str] | None) -> None:
    known = [one.pod for one in values.pods]
    if unknown := sorted(set(pods or ()) - set(known)):
        raise InputError(f"There is no pod {unknown[0]!r}; there are {', '.join(known)}.")


def _show(report: RepairReport) -> None:
    if report.busy_pods:
        answers().print(f"{', '.join(report.busy_pods)}: another repair is at work; nothing was done there.")
    if not report.breaks:
        answers().print("There is no open break to repair.")
        return
    _show_plan(report.plan, is_dry_run=report.is_dry_run)
    if not report.is_dry_run:
        _show_done(report)


def _show_plan(made: Plan, *, is_dry_run: bool) -> None:
    rows = [
        (action.kind.replace("_", " "), action.where, _keys(action.keys, action.cuts), action.why, len(action.causes))
        for action in made.actions
    ]
    title = "What would be done" if is_dry_run else "The plan"
    if rows:
        answers().print(table(title, ["What", "Where", "Keys", "Why", "Breaks"], rows))
    for escalation in made.escalations:
        answers().print(f"For people, {counted(len(escalation.break_ids), 'break')}: {escalation.reason}")
    if made.in_order:
        answers().print(
            f"{counted(len(made.in_order), 'break is', 'breaks are')} in order by now, as far as can be seen."
        )
    if made.deferred:
        answers().print(f"{counted(len(made.deferred), 'break is', 'breaks are')} beyond the budget.")


def _keys(keys: Sequence[str], cuts: Sequence[int]) -> str:
    if not keys:
        return f"from cut {min(cuts)}" if cuts else "all"
    more = f" and {len(keys) - KEYS_SHOWN:,} more" if len(keys) > KEYS_SHOWN else ""
    return ", ".join(keys[:KEYS_SHOWN]) + more


def _show_done(report: RepairReport) -> None:
    rows = [
        (
            done.action_id,
            done.kind.replace("_", " "),
            f"{done.store} of {done.pod}",
            done.key_count,
            done.outcome.replace("_", " "),
        )
        for done in report.actions
    ]
    if rows:
        answers().print(table(f"Done by {report.run}", ["Action", "What", "Where", "Keys", "Outcome"], rows))
    for done in report.actions:
        if done.error:
            answers().print(f"Action {done.action_id} failed: {done.error}")
    verdicts = [
        (result.pair, result.pod, result.cut, result.verdict.value, result.differences, result.reason)
        for result in report.results
    ]
    if verdicts:
        headings = ["Pair", "Pod", "Cut", "Verdict", "Different", "Reason"]
        answers().print(table("Compared again", headings, verdicts))
    if report.is_nothing_changed:
        answers().print("Nothing was changed: all that was looked at is right already.")
    repaired, vanished = (report.settled.repaired, report.settled.vanished) if report.settled else (0, 0)
    already = f", {counted(vanished, 'was', 'were')} in order already" if vanished else ""
    answers().print(f"{repaired:,} of {counted(len(report.breaks), 'break')} repaired{already}.")
    if report.left or report.beyond_budget:
        left = report.left + len(set(report.beyond_budget) - {item.break_id for item in report.breaks})
        answers().print(f"{counted(left, 'is', 'are')} left: `tieout breaks list` says which, and why.")
