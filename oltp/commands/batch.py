"""Several commands in one transaction: what bulk work runs, with the same effect as one command after the other.

    answers = execute_batch(pod, [BatchItem(command=..., idempotency_key=..., occurred_at=...), ...])

Belongs here: running commands together, and each alone when they cannot. Does not belong here: which commands.

Each command claims its own key, runs as written, and stores its own answer. Only what they write is kept back and sent
together: one statement per kind of row instead of one per command, one commit, and the stock counters, which others
wait for, last. So no command sees what another one of its transaction wrote. Only commands of one kind share one (an
order is priced after the product before it has changed), and not two that lock the same aggregate.

**One bad command stops only itself.** Whatever goes wrong (a refusal, a constraint, a lost connection, two commands
that change the same aggregate), the whole transaction is rolled back, and every command runs alone by `execute`, where
it gets its own answer or its own error. The keys make that safe after a commit of which the answer was lost, too.
Commands that ask a payment provider run alone, unless that is a local one: it keeps nothing that would have to be
rolled back, and answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec
import psycopg

from contracts.errors import ConflictError, InputError
from oltp.commands.answers import encoded
from oltp.commands.execute import Command, CommandPod, execute, open_transaction, request_of
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
"""Keys in one order, so that two batches never wait for each other in a circle; only of merchants that live here."""

_ANSWER = """
update oltp.idempotency_keys as stored
set response = given.response
from json_to_recordset(%s::json) as given (merchant_id text, idempotency_key text, response json)
where stored.merchant_id = given.merchant_id and stored.idempotency_key = given.idempotency_key
"""

Key = tuple[str, str]


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """A command, its idempotency key, and when it happened (aware; None: now)."""

    command: Command[Any]
    idempotency_key: str
    occurred_at: datetime | None = None

    @property
    def key(self) -> Key:
        """Return what the key is unique by."""
        return self.command.merchant_id, self.idempotency_key


def execute_batch(pod: CommandPod, items: Sequence[BatchItem]) -> list[Any]:
    """Return per command its answer, or the ConflictError or InputError that it alone ends with.

    Neighbours of one kind share a transaction. Other errors (the pod cannot be reached) are raised; commands that ran
    before stay, and repeating is safe.
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
            # Rolled back as a whole, or committed and not heard of; each command finds its own answer.
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
        # A key is taken, or given twice, or a merchant lives elsewhere.
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
