"""Several commands in one transaction, for bulk work. The effect is the same as running one command after the other.

    answers = execute_batch(pod, [BatchItem(command=..., idempotency_key=..., occurred_at=...), ...])

Belongs here: running commands together, and each alone when they cannot. Does not belong here: which commands.

Each command claims its own key, runs unchanged, and stores its own answer. Their writes are kept back and sent
together: one statement per kind of row instead of one per command, and one commit. The stock counters come last,
because other transactions wait for their locks. So no command sees what another command of its transaction wrote.
Therefore only commands of one type share a transaction (an order must see the price change of a product before it), and
two commands that lock the same aggregate never do.

**One bad command stops only itself.** After any error (a refusal, a constraint, a lost connection, two commands that
change the same aggregate) the whole transaction is rolled back. Then `execute` runs each command alone, and each gets
its own answer or its own error. This is safe even if the commit succeeded and only its answer was lost, because the
commands are idempotent by key. Commands that ask a payment provider run alone, unless the provider is local: a local
one has no state to roll back and answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
import psycopg
from msgspec.structs import replace

from contracts.errors import ConflictError, InputError
from oltp.commands.answers import encoded
from oltp.commands.execute import Command, CommandPod, execute, open_transaction
from oltp.commands.requests import request_of
from oltp.store.rows import write_kept
from oltp.store.stock import merged_moves
from oltp.transaction import CommandTransaction, KeptBack, NotTogetherError

_CLAIM = """
with claimed as (
    insert into oltp.idempotency_keys (merchant_id, idempotency_key, command, body_hash, is_kept)
    select given.merchant_id, given.idempotency_key, given.command, given.body_hash, given.is_kept
    from json_to_recordset(%s::json)
        as given (merchant_id text, idempotency_key text, command text, body_hash text, is_kept boolean)
    order by given.merchant_id, given.idempotency_key
    on conflict do nothing
    returning merchant_id, idempotency_key
)
select claimed.merchant_id, claimed.idempotency_key, residents.directory_epoch
from claimed
inner join oltp.residents using (merchant_id)
"""
"""Insert the keys in sorted order, so that two batches never deadlock; only for merchants that live here."""

_ANSWER = """
update oltp.idempotency_keys as stored
set response = given.response
from json_to_recordset(%s::json) as given (merchant_id text, idempotency_key text, response json)
where stored.merchant_id = given.merchant_id and stored.idempotency_key = given.idempotency_key
"""

Key = tuple[str, str]


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """A command, its idempotency key, and when it happened (timezone-aware; None: now)."""

    command: Command[Any]
    idempotency_key: str
    occurred_at: datetime | None = None

    @property
    def key(self) -> Key:
        """Return the columns by which the key is unique."""
        return self.command.merchant_id, self.idempotency_key


def execute_batch(pod: CommandPod, items: Sequence[BatchItem]) -> list[Any]:
    """Return for each command its answer, or the ConflictError or InputError that it raised when it ran alone.

    Adjacent commands of one type share a transaction. Other errors (the pod cannot be reached) are raised; the commands
    before stay committed, and the caller may repeat the whole batch.
    """
    return [
        answer
        for _, group in groupby(items, key=lambda item: type(item.command))
        for answer in _of_one_kind(pod, list(group))
    ]


def _of_one_kind(pod: CommandPod, items: Sequence[BatchItem]) -> list[Any]:
    if len(items) > 1 and _may_share(pod, items[0].command):
        try:
            return _together(pod, items)
        except (NotTogetherError, ConflictError, InputError, psycopg.Error):
            # The transaction was rolled back, or it was committed and the answer was lost. Each command finds out by
            # itself.
            pass
    return [_alone(pod, item) for item in items]


def _may_share(pod: CommandPod, command: Command[Any]) -> bool:
    return command.IS_BATCHABLE and (not command.ASKS_PROVIDER or pod.gateway.is_local)


def _alone(pod: CommandPod, item: BatchItem) -> Any:
    try:
        return execute(pod, item.command, idempotency_key=item.idempotency_key, occurred_at=item.occurred_at)
    except (ConflictError, InputError) as error:
        return error


def _together(pod: CommandPod, items: Sequence[BatchItem]) -> list[Any]:
    first = items[0]
    with open_transaction(pod, first.command, first.idempotency_key, first.occurred_at) as opened:
        tx = replace(opened, kept=KeptBack())
        epochs = _claim(pod, tx, items)
        answers = [item.command.run(_for_item(pod, tx, item, epochs[item.key])) for item in items]
        write_kept(tx)
        _store(tx, items, answers)
        for statement, parameters in merged_moves(tx.last):
            tx.query(statement, parameters)
        tx.connection.execute(b"commit", prepare=False)
    return answers


def _claim(pod: CommandPod, tx: CommandTransaction, items: Sequence[BatchItem]) -> dict[Key, int]:
    """Claim every key; return the epoch of the directory that each command's merchant lives here in."""
    given = [
        {
            "merchant_id": item.command.merchant_id,
            "idempotency_key": item.idempotency_key,
            "command": type(item.command).__name__,
            "body_hash": request.body_hash,
            "is_kept": request.is_kept,
        }
        for item in items
        for request in [
            request_of(pod, item.command, idempotency_key=item.idempotency_key, occurred_at=item.occurred_at)
        ]
    ]
    rows = tx.query(_CLAIM, (msgspec.json.encode(given).decode(),)).fetchall()
    claimed = {(row[0], row[1]): int(row[2]) for row in rows}
    if len(claimed) != len(items) or claimed.keys() != {item.key for item in items}:
        # A key is taken, or given twice, or a merchant does not live in this pod.
        raise NotTogetherError
    return claimed


def _store(tx: CommandTransaction, items: Sequence[BatchItem], answers: Sequence[Any]) -> None:
    given = [
        {"merchant_id": item.command.merchant_id, "idempotency_key": item.idempotency_key, "response": encoded(answer)}
        for item, answer in zip(items, answers, strict=True)
    ]
    tx.query(_ANSWER, (msgspec.json.encode(given).decode(),))


def _for_item(pod: CommandPod, tx: CommandTransaction, item: BatchItem, directory_epoch: int) -> CommandTransaction:
    return replace(
        tx,
        idempotency_key=item.idempotency_key,
        correlation_id=str(pod.new_uuid()),
        occurred_at=item.occurred_at or tx.occurred_at,
        directory_epoch=directory_epoch,
    )
