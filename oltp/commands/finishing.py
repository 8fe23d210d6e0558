"""The end of a command's transaction: its answer is stored under its key, and everything is committed.

Belongs here: these last statements. Does not belong here: the format of an answer (`answers.py`), finding a stored one
(`execute.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oltp.commands.answers import encoded
from oltp.transaction import CommandTransaction

_ANSWER = b"""
update oltp.idempotency_keys set response = %s::json
where merchant_id = %s and idempotency_key = %s
"""


def store_answer(tx: CommandTransaction, merchant_id: str, answer: Any) -> None:
    """Store the answer under the key that the transaction has claimed."""
    tx.query(_ANSWER, _parameters(tx, merchant_id, answer))


def commit(tx: CommandTransaction) -> None:
    """Queue the kept-back statements and the commit; the end of the pipeline waits for them and raises their errors."""
    tx.send_last()
    tx.connection.execute(b"commit", prepare=False)


def commit_with_answer(tx: CommandTransaction, merchant_id: str, answer: Any) -> None:
    """Store the answer and commit; the first of the kept-back statements carries the answer, which saves a statement.

    PostgreSQL runs that statement first and the answer's update after it: both touch different rows.
    """
    if tx.last:
        statement, parameters = tx.last.pop(0)
        tx.query(
            b"with answered as (" + _ANSWER + b")\n" + statement, (*_parameters(tx, merchant_id, answer), *parameters)
        )
    else:
        store_answer(tx, merchant_id, answer)
    commit(tx)


def _parameters(tx: CommandTransaction, merchant_id: str, answer: Any) -> Sequence[Any]:
    return bytes(encoded(answer)).decode(), merchant_id, tx.idempotency_key
