"""Routes by which operators look at the system: status, freshness, breaks, repairs, promises, and finance's files.

Belongs here: looking. Does not belong here: deciding, which `tieout` does with a person's name and reason; disputes
(`api/routes/disputes.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from api.calls import Answer, Call
from api.declaring import Criticality, Handler, Route, Work
from api.roles import OPERATORS
from contracts.errors import NotFoundError
from contracts.limits import MerchantReference, StoredName
from contracts.ownership import copy_named

FORMATS = {
    "certificate.json": "application/json",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
LISTED_MAX = 1_000


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LISTED_MAX)] = 100


class BreaksQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which breaks."""

    pod: StoredName | None = None
    merchant_id: MerchantReference | None = None
    ended: bool = False
    """Also those that have ended."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LISTED_MAX)] = 100


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A list as the command of the same name answers with --json."""

    items: list[dict[str, Any]]


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """How far one copy of one pod is."""

    copy: str
    pod: str
    state: str
    applied_cut: int | None
    lag_seconds: float | None
    lag_events: int | None
    freshness_seconds: int
    """The target of the contract."""
    late_seconds_max: int
    """Up to this lag the copy is late, not wrong."""


class FreshnessPage(msgspec.Struct, frozen=True, kw_only=True):
    """How far every copy is."""

    copies: list[Freshness]


def get_status(call: Call) -> Answer:
    """Return how everything stands, the verdict first, as `tieout status --json` does."""
    return Answer(value=call.services.operations.status())


def get_freshness(call: Call) -> Answer:
    """Return how far every copy of every pod is behind, beside what the contract allows."""
    status = call.services.operations.status()
    copies = [
        Freshness(
            copy=one["name"],
            pod=one["pod"],
            state=one["state"],
            applied_cut=one["applied_cut"],
            lag_seconds=one["lag_seconds"],
            lag_events=one["lag_events"],
            freshness_seconds=copy_named(one["name"]).freshness_seconds,
            late_seconds_max=copy_named(one["name"]).late_seconds_max,
        )
        for one in (*status["projections"], *status["warehouse"])
    ]
    return Answer(value=FreshnessPage(copies=copies))


def list_breaks(call: Call) -> Answer:
    """Return what differs between two stores, the oldest first."""
    query: BreaksQuery = call.query
    found = call.services.operations.breaks(
        pod=query.pod, merchant_id=query.merchant_id, is_ended=query.ended, limit=query.limit
    )
    return Answer(value=Listed(items=found))


def get_break(call: Call) -> Answer:
    """Return one break with its history."""
    number = call.path["break_id"]
    if not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise NotFoundError("There is no such break.")
    return Answer(value=call.services.operations.find_break(int(number)))


def list_repairs(call: Call) -> Answer:
    """Return what repairs did, the newest first."""
    return Answer(value=Listed(items=call.services.operations.repairs(call.query.limit)))


def list_promises(call: Call) -> Answer:
    """Return what each copy promises when it is down, and the newest drills of it."""
    return Answer(value=Listed(items=call.services.operations.promises()))


def list_notifications(call: Call) -> Answer:
    """Return what the payment provider says and the books do not have, the oldest first."""
    return Answer(value=Listed(items=call.services.operations.notifications(call.query.limit)))


def list_periods(call: Call) -> Answer:
    """Return the closed months with their certificates."""
    return Answer(value=Listed(items=call.services.operations.periods()))


def get_certificate(call: Call) -> Answer:
    """Return the certificate of a closed month, byte for byte."""
    return Answer(value=call.services.operations.certificate(call.text("period")))


def get_report(call: Call) -> Answer:
    """Return the file of a closed month's report, byte for byte as it was made at the closing."""
    name, _, file_format = call.text("file").partition(".")
    if not name or file_format not in FORMATS:
        raise NotFoundError(f"A report's file is named <report>.<format>, with one of {', '.join(FORMATS)}.")
    content = call.services.operations.report_file(call.text("period"), name, file_format)
    return Answer(value=content, media_type=FORMATS[file_format])


def _look(
    name: str, path: str, summary: str, handler: Handler, answer: Any, *, seconds: float = 30.0, **more: Any
) -> Route:
    return Route(
        name=name,
        method="GET",
        path=f"/v1/operator{path}",
        summary=summary,
        handler=handler,
        roles=OPERATORS,
        criticality=Criticality.REPORT,
        work=Work.OPERATOR,
        deadline_seconds=seconds,
        answer=answer,
        **more,
    )


PERIOD = {"period": "The month, as 2026-01"}

ROUTES: tuple[Route, ...] = (
    _look("get_status", "/status", "How everything stands", get_status, dict[str, Any], seconds=60.0),
    _look("get_freshness", "/freshness", "How far every copy is", get_freshness, FreshnessPage, seconds=60.0),
    _look("list_breaks", "/breaks", "What differs between two stores", list_breaks, Listed, query=BreaksQuery),
    _look(
        "get_break",
        "/breaks/{break_id}",
        "One break with its history",
        get_break,
        dict[str, Any],
        parameters={"break_id": "The break's number"},
    ),
    _look("list_repairs", "/repairs", "What repairs did", list_repairs, Listed, query=ListQuery),
    _look("list_promises", "/promises", "What copies promise when they are down", list_promises, Listed),
    _look(
        "list_notifications",
        "/notifications",
        "Notifications of the payment provider that wait or need a person",
        list_notifications,
        Listed,
        query=ListQuery,
    ),
    _look("list_periods", "/periods", "The closed months", list_periods, Listed),
    _look(
        "get_certificate",
        "/periods/{period}/certificate",
        "The certificate of a closed month",
        get_certificate,
        bytes,
        parameters=PERIOD,
    ),
    _look(
        "get_report",
        "/periods/{period}/reports/{file}",
        "A report of a closed month as a file",
        get_report,
        bytes,
        media_type="application/octet-stream",
        parameters={**PERIOD, "file": "The report and the format, as trading.csv"},
    ),
)
