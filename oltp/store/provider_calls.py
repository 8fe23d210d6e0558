"""Calls to the payment provider that are under way, in the pod.

Belongs here: reading and writing calls inside a command's transaction. Does not belong here: when that is done
(`oltp/commands/asking.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import psycopg

from contracts.errors import ConflictError
from contracts.events.common import Value
from contracts.struct_types import make_known
from oltp.domain.provider_calls import SETTING_ASIDE, ProviderCall
from oltp.transaction import CommandTransaction, Row

make_known(ProviderCall)

_COLUMNS = "kind, provider_key, order_id::text, payment_id::text, refund_id::text, subject, amount_minor, currency"
_FIND = f"""
select {_COLUMNS}, (select directory_epoch from oltp.residents where residents.merchant_id = provider_calls.merchant_id)
from oltp.provider_calls where merchant_id = %s and idempotency_key = %s for update
"""
_OF_ORDER = f"""
select {_COLUMNS} from oltp.provider_calls
where order_id = %s and (merchant_id, idempotency_key) <> (%s, %s)
"""
_IS_TAKEN = "select exists (select from oltp.payments where payment_id = %s)"
_INSERT = """
insert into oltp.provider_calls (
    merchant_id, idempotency_key, command, body, kind, provider_key, order_id, payment_id, refund_id, subject,
    amount_minor, currency
)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_BECOME = """
update oltp.provider_calls set kind = %s, provider_key = %s, subject = %s
where merchant_id = %s and idempotency_key = %s
"""
_CLOSE = "select oltp.close_provider_call(%s, %s, %s)"
_LEFT_BEHIND = """
select merchant_id, idempotency_key, command, body from oltp.provider_calls
where asked_at < clock_timestamp() - %s
order by asked_at, merchant_id, idempotency_key
limit %s
"""


class LeftBehind(Value, frozen=True, kw_only=True):
    """A call that no client waits for any more, with its command."""

    merchant_id: str
    idempotency_key: str
    command: str
    body: str


def find_call(tx: CommandTransaction, merchant_id: str) -> tuple[ProviderCall | None, int | None]:
    """Return the call under way for the transaction's key, locked, or None; and the directory epoch of the merchant's
    residence, None where it does not live here.
    """
    row = tx.query(_FIND, [merchant_id, tx.idempotency_key]).fetchone()
    return (None, None) if row is None else (_call(row[:-1]), row[-1])


def calls_of_order(tx: CommandTransaction, merchant_id: str, order_id: str) -> Callable[[], list[ProviderCall]]:
    """Ask for the calls under way for an order, except the call of the transaction's own key."""
    cursor = tx.query(_OF_ORDER, [order_id, merchant_id, tx.idempotency_key])
    return lambda: [_call(row) for row in cursor.fetchall()]


def open_call(tx: CommandTransaction, merchant_id: str, call: ProviderCall, command: str, body: str) -> None:
    """Insert the call that is about to be made; ConflictError when the payment's id is taken."""
    if call.kind in SETTING_ASIDE:
        ((is_taken,),) = tx.query(_IS_TAKEN, [call.payment_id]).fetchall()
        if is_taken:
            raise ConflictError("An id given for payments is used already.")
    named = (call.kind.value, call.provider_key, call.order_id, call.payment_id, call.refund_id, call.subject)
    tx.query(_INSERT, [merchant_id, tx.idempotency_key, command, body, *named, call.amount_minor, call.currency])


def become(tx: CommandTransaction, merchant_id: str, call: ProviderCall) -> None:
    """Replace the answered call of the transaction's key by the call that follows it."""
    tx.query(_BECOME, [call.kind.value, call.provider_key, call.subject, merchant_id, tx.idempotency_key])


def close_call(tx: CommandTransaction, merchant_id: str, *, frees_key: bool = False) -> None:
    """Delete the call of the transaction's key, in the transaction that records its outcome.

    `frees_key`: the outcome is not recorded, so delete the idempotency key too; it may be used again.
    """
    tx.query(_CLOSE, [merchant_id, tx.idempotency_key, frees_key])


def left_behind(connection: psycopg.Connection[Row], age: timedelta, limit: int) -> list[LeftBehind]:
    """Return the oldest calls that were first made longer than `age` ago."""
    rows = connection.execute(_LEFT_BEHIND, [age, limit]).fetchall()
    names = LeftBehind.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), LeftBehind) for row in rows]


def _call(row: Row) -> ProviderCall:
    return msgspec.convert(dict(zip(ProviderCall.__struct_fields__, row, strict=True)), ProviderCall)
