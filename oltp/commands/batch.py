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
from oltp.commands.execute import END_OF_LOG, Command, CommandPod, execute, transaction_of
from oltp.commands.requests import Request, request_of
from oltp.store.rows import write_kept
from oltp.store.stock import merged_moves
from oltp.transaction import CommandTransaction, KeptBack, NotTogetherError

_CLAIM = """
with claimed as (
    insert into oltp.idempotency_keys (merchant_id, idempotency_key, command, body_hash, is_kept, field_hashes)
    select
        given.merchant_id, given.idempotency_key, given.command, given.body_hash, given.is_kept, given.field_hashes
    from json_to_recordset(%s::json) as given (
        merchant_id text, idempotency_key text, command text, body_hash text, is_kept boolean, field_hashes json
    )
    order by given.merchant_id, given.idempotency_key
    on conflict do nothing
    returning merchant_id, idempotency_key
)
select
    claimed.merchant_id, claimed.idempotency_key, residents.directory_epoch, pg_current_xact_id()::text::bigint
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
Asked = tuple[Command[Any], Request]
NOT_TOGETHER = (NotTogetherError, ConflictError, InputError, psycopg.Error)
"""After one of these each command runs alone, and finds out by itself: the transaction was rolled back, or it was
committed and its answer was lost."""


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
    if len(items) > 1 and may_share(pod, items[0].command):
        try:
            return _together(pod, items)
        except NOT_TOGETHER:
            pass
    return [_alone(pod, item) for item in items]


def may_share(pod: CommandPod, command: Command[Any]) -> bool:
    """Return whether a command may share a transaction with others of its type."""
    return command.IS_BATCHABLE and (not command.ASKS_PROVIDER or pod.gateway.is_local)


def _alone(pod: CommandPod, item: BatchItem) -> Any:
    try:
        return execute(pod, item.command, idempotency_key=item.idempotency_key, occurred_at=item.occurred_at)
    except (ConflictError, InputError) as error:
        return error


def _together(pod: CommandPod, items: Sequence[BatchItem]) -> list[Any]:
    asked = [
        (
            item.command,
            request_of(pod, item.command, idempotency_key=item.idempotency_key, occurred_at=item.occurred_at),
        )
        for item in items
    ]
    return run_together(pod, asked)


def run_together(pod: CommandPod, asked: Sequence[Asked]) -> list[Any]:
    """Run commands of one type in one transaction; return their answers. After one of NOT_TOGETHER no effect is known.

    A request that expects a version must not be among them. Those with notes learn where their write is.
    """
    _, first = asked[0]
    with transaction_of(pod, first) as opened:
        tx = replace(opened, kept=KeptBack())
        epochs, xid = _claim(tx, asked)
        commands = [
            (command, _for_request(tx, request, epochs[command.merchant_id, request.idempotency_key]))
            for command, request in asked
        ]
        answers = [command.run(own) for command, own in commands]
        write_kept(tx)
        _store(tx, asked, answers)
        for statement, parameters in merged_moves(tx.last):
            tx.query(statement, parameters)
        tx.connection.execute(b"commit", prepare=False)
        noted = [request.notes for _, request in asked if request.notes is not None]
        end_of_log = tx.query(END_OF_LOG) if noted else None
    if end_of_log is not None and (row := end_of_log.fetchone()):
        for notes in noted:
            notes.lsn, notes.xid = row[0], xid
    return answers


def _claim(tx: CommandTransaction, asked: Sequence[Asked]) -> tuple[dict[Key, int], int]:
    """Claim every key; return since when, in epochs of the directory, each command's merchant lives here, and the
    transaction's id.
    """
    given = [
        {
            "merchant_id": command.merchant_id,
            "idempotency_key": request.idempotency_key,
            "command": type(command).__name__,
            "body_hash": request.body_hash,
            "is_kept": request.is_kept,
            "field_hashes": None if request.field_hashes is None else msgspec.Raw(request.field_hashes.encode()),
        }
        for command, request in asked
    ]
    rows = tx.query(_CLAIM, (msgspec.json.encode(given).decode(),)).fetchall()
    claimed = {(row[0], row[1]): int(row[2]) for row in rows}
    keys = {(command.merchant_id, request.idempotency_key) for command, request in asked}
    if len(claimed) != len(asked) or claimed.keys() != keys:
        # A key is taken, or given twice, or a merchant does not live in this pod.
        raise NotTogetherError
    return claimed, rows[0][3]


def _store(tx: CommandTransaction, asked: Sequence[Asked], answers: Sequence[Any]) -> None:
    given = [
        {
            "merchant_id": command.merchant_id,
            "idempotency_key": request.idempotency_key,
            "response": encoded(answer),
        }
        for (command, request), answer in zip(asked, answers, strict=True)
    ]
    tx.query(_ANSWER, (msgspec.json.encode(given).decode(),))


def _for_request(tx: CommandTransaction, request: Request, directory_epoch: int) -> CommandTransaction:
    return replace(
        tx,
        idempotency_key=request.idempotency_key,
        correlation_id=request.correlation_id,
        causation_id=request.causation_id,
        traceparent=request.traceparent,
        occurred_at=request.occurred_at,
        directory_epoch=directory_epoch,
    )
