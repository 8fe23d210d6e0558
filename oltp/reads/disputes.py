"""Disputes about payments, for a merchant's staff and for operators: lists, and one with all that was said of it.

Belongs here: these questions. Does not belong here: what happens to a dispute (`oltp/domain/disputes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg.rows import kwargs_row

from contracts.errors import NotFoundError
from contracts.events.payment import DisputeStatus
from oltp.store import notifications as stored
from oltp.store.notifications import Stored

SAID_SHOWN = 100
"""How much of what was said of an authorization is shown."""

# What an earlier pod still holds of a merchant that has left it is nobody's.
_DISPUTES = """
select
    disputes.payment_dispute_id::text as payment_dispute_id,
    disputes.merchant_id,
    payments.payment_id::text as payment_id,
    payments.order_id::text as order_id,
    payments.provider,
    payments.provider_reference as authorization_reference,
    disputes.provider_reference,
    disputes.status,
    payments.currency,
    disputes.amount_minor,
    disputes.fee_minor,
    disputes.reason,
    disputes.opened_at,
    disputes.ended_at
from oltp.payment_disputes as disputes
inner join oltp.payments on disputes.payment_id = payments.payment_id
inner join oltp.residents on disputes.merchant_id = residents.merchant_id
"""
_OF_MERCHANT = f"""
{_DISPUTES}
where disputes.merchant_id = %(merchant_id)s
    and (%(status)s::text is null or disputes.status = %(status)s)
    and (
        %(opened_at)s::timestamptz is null
        or (disputes.opened_at, disputes.payment_dispute_id) < (%(opened_at)s, %(payment_dispute_id)s)
    )
order by disputes.opened_at desc, disputes.payment_dispute_id desc
limit %(limit)s
"""
_OF_ALL = f"""
{_DISPUTES}
where (%(merchant_id)s::text is null or disputes.merchant_id = %(merchant_id)s)
    and (%(is_ended)s or disputes.status = 'opened')
order by disputes.opened_at desc, disputes.payment_dispute_id desc
limit %(limit)s
"""
_ONE = f"""
{_DISPUTES}
where disputes.payment_dispute_id = %(payment_dispute_id)s
    and (%(merchant_id)s::text is null or disputes.merchant_id = %(merchant_id)s)
"""


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute about a payment."""

    payment_dispute_id: str
    merchant_id: str
    payment_id: str
    order_id: str
    provider: str
    authorization_reference: str
    """The provider's name of the payment."""
    provider_reference: str
    """The provider's name of the dispute."""
    status: DisputeStatus
    currency: str
    """Of the amounts."""
    amount_minor: int
    """What the customer's bank asks back."""
    fee_minor: int
    """What the provider keeps for it, whatever its end."""
    reason: str
    opened_at: datetime
    ended_at: datetime | None
    """null: it is open."""


def disputes_of(
    connection: psycopg.Connection[Any],
    merchant_id: str,
    *,
    status: DisputeStatus | None,
    after: Sequence[str] | None,
    limit: int,
) -> list[Dispute]:
    """Return at most `limit` of a merchant's disputes, the newest first.

    `after`: when the last one of the page before was opened, and its id. `status`: None: all.
    """
    opened_at, dispute_id = after or (None, None)
    values = {
        "merchant_id": merchant_id,
        "status": None if status is None else str(status),
        "opened_at": opened_at,
        "payment_dispute_id": dispute_id,
        "limit": limit,
    }
    return _read(connection, _OF_MERCHANT, values)


def dispute_of(connection: psycopg.Connection[Any], merchant_id: str, dispute_id: str) -> Dispute:
    """Return one of a merchant's disputes; NotFoundError."""
    found = _read(connection, _ONE, {"merchant_id": merchant_id, "payment_dispute_id": dispute_id})
    if not found:
        raise NotFoundError(f"Merchant {merchant_id} has no dispute {dispute_id}.")
    return found[0]


def disputes_in(reader_dsn: str, *, merchant_id: str | None, is_ended: bool, limit: int) -> list[Dispute]:
    """Return at most `limit` disputes of a pod, the newest first; `is_ended`: also those that have ended."""
    values = {"merchant_id": merchant_id, "is_ended": is_ended, "limit": limit}
    with psycopg.connect(reader_dsn, autocommit=True) as connection:
        return _read(connection, _OF_ALL, values)


def find_dispute(pods: Sequence[tuple[str, str]], dispute_id: str) -> tuple[str, Dispute, list[Stored]]:
    """Return (pod, dispute, what was said of disputes about its payment, the oldest first); NotFoundError.

    `pods`: names with the DSN of each reader.
    """
    for pod, dsn in pods:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for one in _read(connection, _ONE, {"merchant_id": None, "payment_dispute_id": dispute_id}):
                said = stored.about_disputes(connection, one.merchant_id, one.authorization_reference, SAID_SHOWN)
                return pod, one, said
    raise NotFoundError(f"No pod has a dispute {dispute_id}.")


def _read(connection: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> list[Dispute]:
    with connection.cursor(row_factory=kwargs_row(_made)) as cursor:
        return cursor.execute(statement.encode(), values).fetchall()


def _made(*, status: str, **values: Any) -> Dispute:
    return Dispute(status=DisputeStatus(status), **values)
