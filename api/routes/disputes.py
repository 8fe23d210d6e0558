"""Routes of disputes about payments: a merchant's admin looks at its own; operators see all, and record by hand.

Belongs here: looking, and saying what the payment provider says where its notification does not come. Does not belong
here: the provider's notifications (`api/routes/provider.py`).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from api.calls import Answer, Call
from api.commands import body_of, done_answer
from api.cursors import Page, PageQuery, page_of, position_after
from api.declaring import Criticality, Route, Work
from api.roles import ADMINS, OPERATORS
from api.routes.operator import LISTED_MAX, Listed
from contracts.errors import ConflictError
from contracts.events.payment import DisputeStatus
from contracts.limits import MerchantReference
from oltp.commands.record_dispute import RecordDispute, RecordedDispute
from oltp.reads.disputes import Dispute, dispute_of, disputes_of

DISPUTE = {"dispute_id": "The dispute's id"}
IN_PATH = {"merchant_id": "The merchant's id", "payment_id": "The payment's id"}


class DisputesQuery(PageQuery, frozen=True, kw_only=True):
    """Which page of which disputes."""

    status: DisputeStatus | None = None
    """Leave it out for all."""


class AllDisputesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which disputes."""

    merchant_id: MerchantReference | None = None
    ended: bool = False
    """Also those that have ended."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LISTED_MAX)] = 100


def list_disputes(call: Call) -> Answer:
    """Return a page of the disputes about the merchant's payments, the newest first."""
    query: DisputesQuery = call.query
    scope = ("disputes", call.merchant_id, query.status or "")
    after = position_after(call.services.cursors, scope, query.after)
    with call.services.pods.reading(call.merchant_id) as connection:
        found = disputes_of(connection, call.merchant_id, status=query.status, after=after, limit=query.limit + 1)

    def place(one: Dispute) -> tuple[str, str]:
        return one.opened_at.isoformat(), one.payment_dispute_id

    return Answer(value=page_of(call.services.cursors, scope, found, query.limit, place))


def get_dispute(call: Call) -> Answer:
    """Return one dispute about a payment of the merchant."""
    dispute_id = call.uuid("dispute_id")
    with call.services.pods.reading(call.merchant_id) as connection:
        return Answer(value=dispute_of(connection, call.merchant_id, dispute_id))


def list_all_disputes(call: Call) -> Answer:
    """Return disputes of all merchants, the newest first; by default those that are open."""
    query: AllDisputesQuery = call.query
    found = call.services.operations.disputes(merchant_id=query.merchant_id, is_ended=query.ended, limit=query.limit)
    return Answer(value=Listed(items=found))


def find_dispute(call: Call) -> Answer:
    """Return one dispute, with what the payment provider or a person has said of disputes about its payment."""
    return Answer(value=call.services.operations.find_dispute(call.uuid("dispute_id")))


def record_dispute(call: Call) -> Answer:
    """Record what the payment provider says of a dispute where its notification does not come.

    The same as the notification: whichever comes second changes nothing. Who says so, and why, is kept.
    """
    given = msgspec.structs.asdict(call.body)
    command = RecordDispute(merchant_id=call.text("merchant_id"), payment_id=call.uuid("payment_id"), **given)
    return done_answer(call, call.services.pods.execute(command, idempotency_key=call.idempotency_key))


def _of_merchant(name: str, path: str, summary: str, **more: Any) -> Route:
    return Route(
        name=name,
        method="GET",
        path=f"/v1/disputes{path}",
        summary=summary,
        roles=ADMINS,
        criticality=Criticality.PAGE,
        work=Work.ADMIN,
        deadline_seconds=5.0,
        **more,
    )


def _of_operator(name: str, method: str, path: str, summary: str, **more: Any) -> Route:
    return Route(
        name=name,
        method=method,
        path=f"/v1/operator{path}",
        summary=summary,
        roles=OPERATORS,
        criticality=Criticality.REPORT,
        work=Work.OPERATOR,
        deadline_seconds=30.0,
        is_command=method != "GET",
        **more,
    )


ROUTES: tuple[Route, ...] = (
    _of_merchant(
        "list_disputes",
        "",
        "Disputes about the merchant's payments, page by page",
        handler=list_disputes,
        answer=Page[Dispute],
        query=DisputesQuery,
    ),
    _of_merchant(
        "get_dispute",
        "/{dispute_id}",
        "One dispute about a payment",
        handler=get_dispute,
        answer=Dispute,
        parameters=DISPUTE,
    ),
    _of_operator(
        "list_all_disputes",
        "GET",
        "/disputes",
        "Disputes about payments of all merchants",
        handler=list_all_disputes,
        answer=Listed,
        query=AllDisputesQuery,
    ),
    _of_operator(
        "find_dispute",
        "GET",
        "/disputes/{dispute_id}",
        "One dispute with all that was said of it",
        handler=find_dispute,
        answer=dict[str, Any],
        parameters=DISPUTE,
    ),
    _of_operator(
        "record_dispute",
        "POST",
        "/merchants/{merchant_id}/payments/{payment_id}/disputes",
        "Record by hand that a dispute was opened, won or lost",
        handler=record_dispute,
        answer=RecordedDispute,
        body=body_of(RecordDispute, tuple(IN_PATH)),
        raises=(ConflictError,),
        parameters=IN_PATH,
    ),
)
