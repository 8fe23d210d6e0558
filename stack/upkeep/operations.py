"""The functions of operators for the HTTP interface: the same that the commands of the same names call.

Belongs here: handing them to `api/`. Does not belong here: the functions themselves.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from api.operations import Operations, Shown
from contracts.breaks import ENDED, BreakState
from contracts.clock import utc_now
from contracts.errors import NotFoundError
from contracts.ownership import COPIES
from contracts.settings import Settings


def build_operations(settings: Settings) -> Operations:
    """Return the functions over these settings; each connects when it is called."""
    return Operations(
        status=partial(_status, settings),
        breaks=partial(_breaks, settings),
        find_break=partial(_find_break, settings),
        repairs=partial(_repairs, settings),
        promises=partial(_promises, settings),
        notifications=partial(_notifications, settings),
        disputes=partial(_disputes, settings),
        find_dispute=partial(_find_dispute, settings),
        periods=partial(_periods, settings),
        certificate=partial(_certificate, settings),
        report_file=partial(_report_file, settings),
        webhook_standing=partial(_webhook_standing, settings),
        webhook_replay=partial(_webhook_replay, settings),
        webhook_skip=partial(_webhook_skip, settings),
    )


def _status(settings: Settings) -> Shown:
    from stack.looking.status import read_status

    return read_status(settings).as_json()


def _breaks(settings: Settings, *, pod: str | None, merchant_id: str | None, is_ended: bool, limit: int) -> list[Shown]:
    from repair import ledger

    states = tuple(state for state in BreakState if is_ended or state not in ENDED)
    found = ledger.breaks(settings.control_dsn, states=states, pod=pod, merchant_id=merchant_id, limit=limit)
    return [one.as_json() for one in found]


def _find_break(settings: Settings, break_id: int) -> Shown:
    from repair import ledger

    found = ledger.find_break(settings.control_dsn, break_id)
    return {**found.as_json(), "history": [asdict(change) for change in ledger.history(settings.control_dsn, break_id)]}


def _repairs(settings: Settings, limit: int) -> list[Shown]:
    from repair.audit import actions

    return [action.as_json() for action in actions(settings.control_dsn, now=utc_now(), limit=limit)]


def _promises(settings: Settings) -> list[Shown]:
    from drills.records import newest_proofs

    proofs: dict[str, list[Any]] = {}
    for proof in newest_proofs(settings.control_dsn):
        proofs.setdefault(proof.system, []).append(asdict(proof))
    return [
        {"copy": copy.name, "when_down": copy.when_down, "runbook": copy.runbook, "drills": proofs.get(copy.name, [])}
        for copy in COPIES
    ]


def _notifications(settings: Settings, limit: int) -> list[Shown]:
    from oltp.notifying import open_notifications

    found = [(pod.pod, one) for pod in settings.pods for one in open_notifications(pod.reader_dsn, limit=limit)]
    found.sort(key=lambda named: named[1].received_at)
    return [{"pod": pod, **msgspec.to_builtins(one)} for pod, one in found[:limit]]


def _disputes(settings: Settings, *, merchant_id: str | None, is_ended: bool, limit: int) -> list[Shown]:
    from stack.composition.disputes import all_disputes

    return all_disputes(settings, merchant_id=merchant_id, is_ended=is_ended, limit=limit)


def _find_dispute(settings: Settings, dispute_id: str) -> Shown:
    from stack.composition.disputes import dispute_shown

    return dispute_shown(settings, dispute_id)


def _periods(settings: Settings) -> list[Shown]:
    from finance.books import closed_periods

    return [one.as_json() for one in closed_periods(settings.control_dsn)]


def _certificate(settings: Settings, period: str) -> bytes:
    from finance.books import closed_periods

    for one in closed_periods(settings.control_dsn):
        if str(one.period) == period:
            return one.certificate.encode()
    raise NotFoundError(f"No month {period!r} is closed.")


def _report_file(settings: Settings, period: str, report: str, file_format: str) -> bytes:
    from finance.books import read_artefact
    from finance.periods import parse_period

    return read_artefact(settings.control_dsn, parse_period(period), report, file_format)


def _webhook_standing(settings: Settings, endpoint_id: str) -> Shown:
    from stack.composition.webhooks import standing_json, standings_of

    (found,) = standings_of(settings, endpoint_id=endpoint_id)
    return standing_json(settings, found)


def _webhook_replay(settings: Settings, endpoint_id: str, *, is_preview: bool, **start: Any) -> Shown:
    from stack.composition.webhooks import replay_json, replay_now

    return replay_json(replay_now(settings, endpoint_id, is_preview=is_preview, **start), is_preview=is_preview)


def _webhook_skip(settings: Settings, endpoint_id: str, event_id: str, **how: Any) -> Shown:
    from stack.composition.webhooks import skip_now

    return asdict(skip_now(settings, endpoint_id, event_id, **how))
