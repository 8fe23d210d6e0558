"""A report of a run of repairs as values that JSON can hold.

Belongs here: that form. Does not belong here: the report itself (`repair/run_report.py`), tables for people
(`cli/commands/repair.py`).
"""

from __future__ import annotations

from typing import Any

from repair.run_report import RepairReport


def as_json(report: RepairReport) -> dict[str, Any]:
    """Return a report as values that JSON can hold."""
    return {
        "run": report.run,
        "is_dry_run": report.is_dry_run,
        "is_clean": report.is_clean,
        "is_nothing_changed": report.is_nothing_changed,
        "breaks": [item.as_json() for item in report.breaks],
        "left": report.left,
        "plan": {
            "actions": [vars(action) | {"keys": action.keys[:50]} for action in report.plan.actions],
            "escalations": [vars(escalation) for escalation in report.plan.escalations],
            "deferred": report.plan.deferred,
            "in_order": report.plan.in_order,
        },
        "actions": [action.as_json() for action in report.actions],
        "results": [result.as_json() for result in report.results],
        "recorded": None if report.recorded is None else vars(report.recorded),
        "settled": None if report.settled is None else vars(report.settled),
        "refused": report.refused,
        "beyond_budget": report.beyond_budget,
        "busy_pods": report.busy_pods,
    }
